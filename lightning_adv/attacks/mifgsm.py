"""Momentum iterative FGSM (Dong et al., 2018).

g_{t+1} = decay * g_t + grad_x L(f(x_t), y) / |grad_x L(f(x_t), y)|_1
x_{t+1} = Proj_{B(x, eps)} ( x_t + step_size * direction(g_{t+1}) )
"""

import math

import torch
from torch import Tensor

from lightning_adv.attacks.ball import Ball, Norm
from lightning_adv.attacks.budget import Budget, as_eps, as_float
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import Noise
from lightning_adv.attacks.pgd import PGD, STEPS_BETWEEN_DROPS
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

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """The loop of the module's equations."""
        ball = Ball(goal.x, self.eps, self.norm)
        x_adv, momentum = ball.center, torch.zeros_like(ball.center)
        for step in range(self.steps):
            grad = goal.gradient(x_adv)
            length = grad.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=_TINY)
            momentum = self.decay * momentum + grad / length
            x_adv = ball.ascend(x_adv, momentum, self.step_size)
            if (step + 1) % STEPS_BETWEEN_DROPS == 0 and (keep := goal.survivors()) is not None:
                ball, x_adv, momentum = ball.select(keep), x_adv[keep], momentum[keep]
                if not len(keep):
                    break
        return x_adv
