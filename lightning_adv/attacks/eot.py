"""Expectation over transformation (Athalye et al., 2018): attack the mean over a randomised model's draws.

grad_x E[L(f(x), y)] ~ 1/n sum_i grad_x L(f_i(x), y)
"""

from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError

__all__ = ["EOT"]


class EOT(Attack):
    """Any attack with every loss, gradient and verdict averaged over several forwards of a randomised model.

    The draws are folded into the batch, and gradients are averaged before any sign or normalisation is taken. A sample
    counts as fooled when the mean prediction is wrong; at the end of ``run``, that of draws which the attack has not
    seen.

    Args:
        attack: the attack.
        samples: draws; 20 in AutoAttack's ``rand``.

    Raises:
        InputError: fewer than one draw.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> EOT(PGD(eps="8/255", steps=3), samples=4)(model, x, torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(self, attack: Attack, samples: int = 20) -> None:
        if samples < 1:
            raise InputError(f"samples must be at least 1, got {samples}")
        super().__init__(attack.restarts, attack.seed)
        self.attack, self.samples, self.draws = attack, samples, samples
        self.loss, self.shortest, self.judges_itself = attack.loss, attack.shortest, attack.judges_itself
        self.reaches = attack.reaches
        self.eps, self.norm, self.steps, self.step_size = attack.eps, attack.norm, attack.steps, attack.step_size

    @property
    def takes_probabilities(self) -> bool:
        """Where the attack does."""
        return self.attack.takes_probabilities

    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """The attack's own loop; ``goal`` averages."""
        return self.attack.perturb(goal, noise)

    @property
    def has_budget(self) -> bool:
        """Whether the attack has one."""
        return self.attack.has_budget

    def scaled(self, factor: float) -> "EOT":
        """The same with the attack's budget times ``factor``."""
        return EOT(self.attack.scaled(factor), self.samples)
