"""Fast gradient sign method (Goodfellow, Shlens, Szegedy, 2015).

x_adv = x + eps * sign(grad_x L(f(x), y)), clamped to [0, 1]
"""

from lightning_adv.attacks.ball import Norm
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.pgd import PGD

__all__ = ["FGSM"]


class FGSM(PGD):
    """One step of length eps from the clean image.

    Args:
        eps: length of the step, in pixel units of [0, 1]; ``8/255`` is accepted.
        norm: "Linf" (the paper's sign step), "L2" or "L1".

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> FGSM(eps="8/255")(model, x, torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(self, eps: Budget = 8 / 255, norm: Norm = "Linf") -> None:
        super().__init__(eps=eps, step_size=as_eps(eps, norm), steps=1, norm=norm, start="clean")
