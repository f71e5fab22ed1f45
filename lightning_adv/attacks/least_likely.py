"""Iterative least-likely-class method (Kurakin, Goodfellow, Bengio, 2017): BIM towards the class least believed in.

t = argmin_k f(x)_k,   x_{t+1} = Proj_{B(x, eps)} ( x_t - step_size * sign(grad_x CE(f(x_t), t)) )
"""

from lightning_adv.attacks.ball import Norm
from lightning_adv.attacks.bim import BIM
from lightning_adv.attacks.budget import Budget
from lightning_adv.attacks.targeted import Targeted

__all__ = ["LeastLikely"]


class LeastLikely(Targeted):
    """BIM targeted at the class of the lowest clean logit; success is reaching it.

    Args:
        eps: radius of the ball, in pixel units of [0, 1]; ``8/255`` is accepted.
        step_size: length of a step, same units (the paper's is one grey level).
        steps: gradient steps (the paper takes min(eps + 4, 1.25 eps) with eps in grey levels).
        norm: "Linf" (the paper's), "L2" or "L1".

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> LeastLikely(eps="8/255")(model, x, torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(
        self, eps: Budget = 8 / 255, step_size: Budget | None = 1 / 255, steps: int = 10, norm: Norm = "Linf"
    ) -> None:
        super().__init__(BIM(eps=eps, step_size=step_size, steps=steps, norm=norm), "least_likely")
