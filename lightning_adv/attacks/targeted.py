"""Targeted attacks whose target class is chosen by a rule instead of given."""

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_adv.asking import Classifier
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.labels import most_likely
from lightning_adv.attacks.losses import wrong_classes
from lightning_adv.attacks.noise import Noise
from lightning_adv.attacks.wrapper import Wrapper
from lightning_adv.errors import InputError

__all__ = ["Selector", "Targeted"]

Selector = Literal["least_likely", "random", "next", "all"]
"""Which class an attack aims at; never the label."""


class Targeted(Wrapper):
    """Any attack, aimed at a class that a rule selects; success is reaching that class, not just any error.

    One forward on the clean images tells the classes. Restarts aim at the same class again.

    Args:
        attack: the attack to aim; its budget, restarts and seed hold.
        selector: "least_likely" (lowest clean logit; Kurakin et al., 2017), "random" (uniform, the same for a sample
            in every batch), "next" (label + 1, the last label wraps round) or "all" (every other class in turn, the
            likeliest first, for the samples that none has reached; a minimal-norm attack tries all of them).

    Raises:
        InputError: an unknown selector; when called, a ``target``.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> y = torch.tensor([0, 2])
        >>> result = Targeted(PGD(eps=0.5), "next").run(model, torch.rand(2, 1, 2, 2), y)
        >>> torch.equal(result.success, result.logits.argmax(dim=1) == (y + 1) % 3)
        True
    """

    def __init__(self, attack: Attack, selector: Selector = "least_likely") -> None:
        super().__init__(attack)
        if selector not in get_args(Selector):
            raise InputError(f"selector must be one of {', '.join(get_args(Selector))}, got {selector!r}")
        self.selector = selector

    @property
    def aim(self) -> str:
        """The selector."""
        return self.selector

    @property
    def judges_itself(self) -> bool:
        """Where the attack does, and where one class after the other is aimed at."""
        return self.attack.judges_itself or self.selector == "all"

    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """Select, then attack."""
        goal.reach = True
        if goal.target is not None:  # a restart
            return self.attack.perturb(goal, noise)
        logits = goal.look(goal.x)[0]
        label = most_likely(goal.y)
        if self.selector == "all":
            return self._reach_each(goal, noise, wrong_classes(logits, label))
        if self.selector == "least_likely":
            goal.target = _least_likely(logits, label)
        elif self.selector == "next":
            goal.target = (label + 1) % logits.shape[1]
        else:
            others = logits.shape[1] - 1
            drawn = (noise.uniform(logits[:, :1]).squeeze(1) * others).long().clamp(max=others - 1)
            goal.target = drawn + (drawn >= label)
        return self.attack.perturb(goal, noise)

    def _reach_each(self, goal: Goal, noise: Noise, classes: Tensor) -> None:
        everyone = goal.active
        for rank in range(classes.shape[1]):
            pursued = goal.active, goal.x, goal.y
            place = torch.searchsorted(everyone, goal.active)
            goal.target = classes[place, rank]
            x_adv = self.attack.perturb(goal, noise.select(place))
            if x_adv is not None and len(goal.active):
                goal.logits(x_adv)
            goal.target = None
            # A minimal-norm attack drops what it has fooled, but a later class may be nearer.
            goal.active, goal.x, goal.y = pursued
            goal.survivors()
            if not len(goal.active):
                break

    def _goal(self, model: Classifier, x: Tensor, y: Tensor, target: Tensor | None, keep_best: bool = False) -> Goal:
        if target is not None:
            raise InputError("Targeted selects the target itself; give target to the attack that it wraps")
        return super()._goal(model, x, y, target, keep_best)


def _least_likely(logits: Tensor, label: Tensor) -> Tensor:
    """[N] the last of the other classes that the model does not rule out; where it rules out all, the last of them."""
    others = wrong_classes(logits, label)
    possible = (logits.gather(1, others) != -torch.inf).sum(dim=1, keepdim=True)
    return others.gather(1, possible - 1 + len(others[0]) * (possible == 0)).squeeze(1)
