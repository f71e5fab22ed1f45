"""Attacks that hold another attack."""

import copy
from abc import abstractmethod
from operator import attrgetter

from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import AttackLoss
from lightning_adv.attacks.noise import Noise

__all__ = ["Wrapper"]


class Wrapper(Attack):
    """Another attack, changed in one respect: whatever a subclass does not say otherwise is the other attack's.

    Args:
        attack: the other attack.

    Example:
        >>> from lightning_adv.attacks import EOT, PGD
        >>> isinstance(EOT(PGD(eps=0.1, steps=7)), Wrapper), EOT(PGD(eps=0.1, steps=7)).scaled(0.5).eps
        (True, 0.05)
    """

    @abstractmethod
    def __init__(self, attack: Attack) -> None:
        super().__init__()
        self._hold(attack)

    eps = property(attrgetter("attack.eps"))
    norm = property(attrgetter("attack.norm"))
    steps = property(attrgetter("attack.steps"))
    step_size = property(attrgetter("attack.step_size"))
    has_budget = property(attrgetter("attack.has_budget"))
    loss = property(attrgetter("attack.loss"))
    shortest = property(attrgetter("attack.shortest"))
    judges_itself = property(attrgetter("attack.judges_itself"))
    aim = property(attrgetter("attack.aim"))
    draws = property(attrgetter("attack.draws"))
    covers_ball = property(attrgetter("attack.covers_ball"))
    black_box = property(attrgetter("attack.black_box"))
    low = property(attrgetter("attack.low"))
    takes_shares = property(attrgetter("attack.takes_shares"))
    takes_probabilities = property(attrgetter("attack.takes_probabilities"))

    @property
    def members(self) -> dict[str, Attack]:
        """Those of the other attack, each changed in the same respect."""
        return {name: self.around(each) for name, each in self.attack.members.items()}

    def around(self, attack: Attack) -> "Wrapper":
        """The same change of ``attack``."""
        other = copy.copy(self)
        other._hold(attack)
        return other

    def scaled(self, factor: float) -> "Wrapper":
        """The same change of the other attack with its budget times ``factor``.

        Raises:
            InputError: an attack without a budget.
        """
        return self.around(self.attack.scaled(factor))

    def raising(self, loss: AttackLoss) -> "Wrapper":
        """The same change of the other attack, whose gradients raise another loss."""
        return self.around(self.attack.raising(loss))

    def lowered(self) -> "Wrapper":
        """The same change of the other attack, which searches in bfloat16."""
        return self.around(self.attack.lowered())

    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """The other attack's own loop."""
        return self.attack.perturb(goal, noise)

    def _hold(self, attack: Attack) -> None:
        self.attack, self.restarts, self.seed = attack, attack.restarts, attack.seed
