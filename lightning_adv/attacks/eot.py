"""Expectation over transformation (Athalye et al., 2018): attack the mean over a randomised model's draws.

grad_x E[L(f(x), y)] ~ 1/n sum_i grad_x L(f_i(x), y)
"""

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.wrapper import Wrapper
from lightning_adv.errors import at_least_one

__all__ = ["EOT"]


class EOT(Wrapper):
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
        at_least_one(samples=samples)
        super().__init__(attack)
        self.samples = samples

    @property
    def draws(self) -> int:
        """Over so many forwards ``Goal`` averages."""
        return self.samples
