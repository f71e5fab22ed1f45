"""Basic iterative method (Kurakin, Goodfellow, Bengio, 2017): PGD from the clean image."""

from lightning_adv.attacks.ball import Norm
from lightning_adv.attacks.budget import Budget
from lightning_adv.attacks.pgd import PGD

__all__ = ["BIM"]


class BIM(PGD):
    """Iterated FGSM: PGD that starts at the clean image.

    Args:
        eps: radius of the ball, in pixel units of [0, 1]; ``8/255`` is accepted.
        step_size: length of a step; default 2.5 * eps / steps.
        steps: gradient steps.
        norm: "Linf" (the paper's), "L2" or "L1".

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> BIM(eps="8/255", steps=3)(model, x, torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(
        self, eps: Budget = 8 / 255, step_size: Budget | None = None, steps: int = 10, norm: Norm = "Linf"
    ) -> None:
        super().__init__(eps=eps, step_size=step_size, steps=steps, norm=norm, start="clean")
