"""Gradient attacks as Foolbox 2 runs them: the budget is not given but searched, each image's own.

What is found lies right behind the decision boundary: a small change of it tends to bring the class back.
"""

import torch
from torch import Tensor

from lightning_adv.attacks import Attack, Goal, Noise

__all__ = ["SearchedFGSM", "SearchedPGD"]

FINE = 20
"""A first success among so many budgets of FGSM is followed by as many more up to it."""

GROWTH, ROUNDS = 1.5, 20
"""PGD's budget grows by this while it fails, at most so often; as many bisections follow."""


class SearchedFGSM(Attack):
    """One gradient, followed in small equal steps up to the first that fools; a second, finer search for the nearest.

    Args:
        budgets: how many, evenly spaced, the last one 1.
    """

    judges_itself, norm, shortest = True, "Linf", "Linf"

    def __init__(self, budgets: int = 1000) -> None:
        super().__init__()
        self.budgets = budgets

    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """x + k unit sign(gradient), k = 1, 2, ...; success is not monotone in k, so that every k is tried."""
        way = goal.gradient(goal.x).sign()
        count = goal.x.new_zeros(len(way))
        unit, last = count + 1 / self.budgets, count + self.budgets
        keep = _right(goal, goal.success[goal.active])
        while True:
            way, count, unit, last = way[keep], count[keep] + 1, unit[keep], last[keep]
            if not len(keep):
                return None
            image = goal.x + _like(count * unit, way) * way
            fooled = goal.succeeded(goal.logits(image.clamp(0, 1)))
            again = fooled & (count <= FINE) & (last > FINE)
            unit, last = torch.where(again, unit * count / FINE, unit), torch.where(again, FINE, last)
            count = torch.where(again, 0, count)
            keep = _right(goal, (fooled & ~again) | (count >= last))


class SearchedPGD(Attack):
    """PGD that stops at its first success, in balls whose size is bisected; the nearest success in L2 is the result.

    Args:
        first: budget of the first try.
        step_size: of a step in it; a step of another try is in proportion.
        steps: of a try.
        start: whether tries start at a random point of their ball, as PGD does and BIM does not.
        seed: of the random starts.
    """

    judges_itself, norm, shortest = True, "Linf", "L2"

    def __init__(
        self, first: float = 0.3, step_size: float = 0.01, steps: int = 40, start: bool = True, seed: int = 0
    ) -> None:
        super().__init__(seed=seed)
        self.first, self.step_size, self.steps, self.start = first, step_size, steps, start

    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """Larger balls until one succeeds, then the middle between the least that did and the largest that did not."""
        goal.logits(goal.x)
        bad = goal.x.new_zeros(len(goal.x))
        eps, good, left = bad + self.first, bad + torch.inf, bad + ROUNDS
        keep = _right(goal, goal.success[goal.active])
        while True:
            eps, bad, good, left = eps[keep], bad[keep], good[keep], left[keep]
            noise = noise.select(keep)
            if not len(keep):
                return None
            fooled, known = self._tried(goal, _like(eps, goal.x), noise), good.isfinite()
            left = torch.where(fooled & ~known, ROUNDS, left - 1)
            good, bad = torch.where(fooled, eps, good), torch.where(known & ~fooled, eps, bad)
            eps = torch.where(good.isfinite(), (good + bad) / 2, eps * GROWTH)
            keep = _right(goal, left <= 0)

    def _tried(self, goal: Goal, eps: Tensor, noise: Noise) -> Tensor:
        """[N] which images of ``goal`` a run in their ball fools; what it finds is credited to ``goal``."""
        run = Goal(goal.model, goal.x, goal.y, goal.target, keep_best=True)
        start = (2 * noise.uniform(goal.x) - 1) * eps if self.start else 0
        x_adv = (goal.x + start).clamp(0, 1)
        for step in range(self.steps):
            grad = run.gradient(x_adv, on_record=step > 0)
            if (keep := run.survivors()) is not None:
                grad, x_adv, eps = grad[keep], x_adv[keep], eps[keep]
                if not len(keep):
                    break
            moved = x_adv + self.step_size / self.first * eps * grad.sign()
            x_adv = torch.clamp(moved, run.x - eps, run.x + eps).clamp(0, 1)
        if len(run.active):
            run.logits(x_adv)
        goal.credit(run.best, run.best_logits, run.best_score)
        goal.zero_gradient[goal.active] |= run.zero_gradient
        return run.success


def _right(goal: Goal, done: Tensor) -> Tensor:
    """Go on without the samples that are ``done`` [N]; positions of the others."""
    keep = (~done).nonzero().flatten()
    goal.pursue(keep)
    return keep


def _like(values: Tensor, images: Tensor) -> Tensor:
    """[N] shaped to go with [N, C, H, W]."""
    return values.view(-1, *[1] * (images.dim() - 1))
