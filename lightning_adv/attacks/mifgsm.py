"""Momentum iterative FGSM (Dong et al., 2018): PGD along an accumulated gradient.

g_{t+1} = decay * g_t + grad_x L(f(x_t), y) / mean |grad_x L(f(x_t), y)|

The paper divides by the L1 norm, its authors' code by the mean over the image, which is the same up to a factor.
"""

import math

import torch
from torch import Tensor

from lightning_adv.attacks.ball import Norm
from lightning_adv.attacks.budget import Budget, as_eps, as_float
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.pgd import PGD
from lightning_adv.errors import InputError

__all__ = ["MIFGSM"]

_TINY = torch.finfo(torch.float32).tiny


class MIFGSM(PGD):
    """Steps along an accumulated gradient, which transfer better between models than BIM's.

    Args:
        eps: radius of the ball, in pixel units of [0, 1]; ``8/255`` is accepted.
        step_size: length of a step, same units; default eps / steps (the paper's).
        steps: gradient steps; each costs one forward and one backward to the input.
        decay: of the accumulated gradient; 0 gives BIM.
        norm: "Linf" (sign steps), "L2" or "L1".

    Raises:
        InputError: eps, step_size, steps or decay out of range, an unknown norm.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> MIFGSM(eps="8/255", steps=3)(model, x, torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(
        self,
        eps: Budget = 8 / 255,
        step_size: Budget | None = None,
        steps: int = 10,
        decay: float = 1.0,
        norm: Norm = "Linf",
    ) -> None:
        if step_size is None:
            step_size = as_eps(eps, norm) / max(steps, 1)
        super().__init__(eps, as_float("step_size", step_size), steps, norm, start="clean")
        if not 0 <= decay < math.inf:
            raise InputError(f"decay must be finite and not negative, got {decay}")
        self.decay = decay

    def ascent(self, goal: Goal, x_adv: Tensor, before: Tensor | None) -> Tensor:
        """The module's equation."""
        return self.accumulated(goal.gradient(x_adv), before)

    def accumulated(self, grad: Tensor, before: Tensor | None) -> Tensor:
        """The gradient [N, C, H, W], in units of its own mean size, on top of what was accumulated before."""
        fresh = grad / grad.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=_TINY)
        return fresh if before is None else self.decay * before + fresh
