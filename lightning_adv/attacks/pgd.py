"""Projected gradient descent (Madry et al., 2018).

x_{t+1} = Proj_{B(x, eps)} ( x_t + step_size * direction(grad_x L(f(x_t), y)) )
"""

import math
from typing import Literal

from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Ball, Norm, as_norm
from lightning_adv.attacks.budget import Budget, as_eps, as_float
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError, at_least_one

__all__ = ["PGD"]

STEPS_BETWEEN_DROPS = 5
"""Finished samples leave an evaluation every so many steps: one host sync each time."""

ENOUGH_STEPS = 5
"""With fewer steps an ascent does not bend as the loss does, however long they are."""

GAUSSIAN_START = 1e-3
"""Standard deviation of TRADES's start (Zhang et al., 2019)."""


class PGD(Attack):
    """Iterated gradient ascent on the cross-entropy inside an eps-ball.

    Args:
        eps: radius of the ball, in pixel units of [0, 1]; ``8/255`` is accepted.
        step_size: length of a step, same units; default 2.5 * eps / steps.
        steps: gradient steps; each costs one forward and one backward to the input.
        norm: "Linf", "L2" or "L1" (the steps of Tramèr and Boneh, 2019, and the exact projection).
        start: "uniform" in the ball, "clean", or "gaussian" of deviation 0.001 around the image (TRADES).
        restarts: random restarts in evaluation, on the samples that survived the ones before.
        seed: of the start in evaluation.

    Raises:
        InputError: eps negative or above 1 under Linf, steps below 1, restarts below 1, an unknown norm.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> (PGD(eps=0.1, steps=3)(model, x, torch.tensor([0, 2])) - x).abs().max() <= 0.1 + 1e-6
        tensor(True)
    """

    def __init__(
        self,
        eps: Budget = 8 / 255,
        step_size: Budget | None = None,
        steps: int = 10,
        norm: Norm = "Linf",
        start: Literal["uniform", "clean", "gaussian"] = "uniform",
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(restarts, seed)
        at_least_one(steps=steps)
        if start not in ("uniform", "clean", "gaussian"):
            raise InputError(f"start must be uniform, clean or gaussian, got {start!r}")
        if restarts > 1 and start == "clean":
            raise InputError("restarts from the clean image repeat each other; use start: uniform")
        self.norm = as_norm(norm)
        self.eps = as_eps(eps, norm)
        self.step_size = 2.5 * self.eps / steps if step_size is None else as_float("step_size", step_size)
        if not 0 <= self.step_size < math.inf:
            raise InputError(f"step_size must be finite and not negative, got {step_size}")
        self.steps, self.start = steps, start

    takes_shares = True

    @property
    def covers_ball(self) -> bool:
        """Whether steps are enough and long enough; under L2 and L1 a random start is never quite left behind."""
        way = self.eps if self.start == "clean" else 2 * self.eps
        leaves = self.start == "clean" or self.norm == "Linf"
        return leaves and self.steps >= ENOUGH_STEPS and self.steps * self.step_size >= way - 1e-9

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """The loop of the module's equation."""
        ball, step_size = Ball(goal.x, self.eps * goal.shares, self.norm), self.step_size * goal.shares
        x_adv, ascent = self._start(ball, noise), None
        for step in range(self.steps):
            ascent = self.ascent(goal, x_adv, ascent)
            x_adv = ball.ascend(x_adv, ascent, step_size)
            if (step + 1) % STEPS_BETWEEN_DROPS == 0 and (keep := goal.survivors()) is not None:
                ball, x_adv, ascent = ball.select(keep), x_adv[keep], ascent[keep]
                if not len(keep):
                    break
        return x_adv

    def ascent(self, goal: Goal, x_adv: Tensor, before: Tensor | None) -> Tensor:
        """What the next step follows, [N, C, H, W]: the gradient; a variant of PGD follows something else.

        Args:
            goal: gives gradients.
            x_adv: [N, C, H, W] where the step begins.
            before: what the step before followed; None at the first.
        """
        return goal.gradient(x_adv)

    def _start(self, ball: Ball, noise: Noise) -> Tensor:
        if self.start == "clean":
            return ball.center
        if self.start == "gaussian":
            return ball.project(ball.center + GAUSSIAN_START * noise.normal(ball.center))
        return ball.random_point(noise)
