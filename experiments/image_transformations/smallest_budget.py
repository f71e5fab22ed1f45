"""Attacks as Foolbox 2 made them: the smallest budget that fools, up to a largest one."""

import torch
from torch import Tensor

from lightning_adv.attacks import Attack, Goal, Noise
from lightning_adv.attacks.wrapper import Wrapper

__all__ = ["SmallestBudget"]


class SmallestBudget(Wrapper):
    """An attack run with growing budgets; a sample is done at the first that fools it.

    Args:
        attack: has an ``eps``, the largest budget.
        budgets: how many, evenly spaced.
    """

    judges_itself = True

    def __init__(self, attack: Attack, budgets: int = 15) -> None:
        super().__init__(attack)
        self.budgets = budgets

    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """eps = k / budgets of the largest, k = 1, 2, ..."""
        first = goal.active
        for k in range(1, self.budgets + 1):
            own = noise.select(torch.searchsorted(first, goal.active))
            x_adv = self.attack.scaled(k / self.budgets).perturb(goal, own)
            if len(goal.active):
                goal.logits(x_adv)
            goal.survivors()
            if not len(goal.active):
                break
        return None
