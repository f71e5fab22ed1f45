"""Decoupled direction and norm (Rony et al., 2019): the gradient turns the perturbation, success alone sets its length.

d' = d_t + a_t g / |g|_2,   r_{t+1} = (1 - gamma_t) r_t after a success, (1 + gamma_t) r_t after a failure,
d_{t+1} = r_{t+1} d' / |d'|_2, clamped to the box,   a_t falls from 1 to 0.01 as a cosine, and so does gamma_t
"""

import math

import torch

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Ball, lengths
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.fab import STEPS_BETWEEN_DROPS
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError, at_least_one

__all__ = ["DDN"]

LAST_STEP = 0.01
"""Length of the last step; the first has 1."""
TINY = 1e-12


class DDN(Attack):
    """The nearest success in the L2 norm, on a sphere that shrinks after each success and grows after each failure.

    The authors' sphere begins with radius 1 and changes by 5 % throughout (``gamma=0.05, last_gamma=0.05, radius=1``),
    and they round pixels to 256 levels. One that begins far out and changes by less and less comes nearer on validation
    images of a robust network of the zoo, and as near on those of two others.

    Args:
        eps: a success counts only within this distance; default any.
        steps: each costs a forward and a backward.
        gamma: share by which the sphere shrinks and grows at first.
        last_gamma: the same in the end.
        radius: of the first sphere.
        seed: of the direction that a sample takes where its gradient vanishes.

    Raises:
        InputError: steps below 1, a share outside (0, 1), a radius that is not positive.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> DDN(steps=20).run(model, x, model(x).argmax(dim=1)).images.shape
        torch.Size([2, 1, 2, 2])
    """

    norm = shortest = "L2"
    judges_itself = True
    takes_probabilities = False  # every step asks whether the class has changed

    def __init__(
        self,
        eps: Budget | None = None,
        steps: int = 100,
        gamma: float = 0.3,
        last_gamma: float = 0.01,
        radius: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        at_least_one(steps=steps)
        if not 0 < gamma < 1 or not 0 < last_gamma < 1 or not 0 < radius < math.inf:
            raise InputError(
                "gamma and last_gamma must lie in (0, 1) and radius be positive and finite, "
                f"got {gamma}, {last_gamma} and {radius}"
            )
        self.eps = None if eps is None else as_eps(eps, "L2")
        self.steps, self.gamma, self.last_gamma, self.radius = steps, gamma, last_gamma, radius

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """The loop of the module's equation."""
        ball, diagonal = Ball(goal.x, 1.0, "L2"), math.sqrt(goal.x[0].numel())
        aside = ball.ascent_direction(noise.normal(goal.x), goal.x)
        offset, radius = torch.zeros_like(goal.x), goal.x.new_full((len(goal.x), 1, 1, 1), self.radius)
        for step in range(self.steps):
            logits, _, grad = goal.answer(goal.x + offset)
            success = goal.succeeded(logits).view_as(radius)
            drops = self.eps is not None and (step + 1) % STEPS_BETWEEN_DROPS == 0
            if drops and (keep := goal.survivors()) is not None:
                offset, radius, grad, success, aside = (t[keep] for t in (offset, radius, grad, success, aside))
                if not len(keep):
                    return
            fallen = (1 - math.cos(math.pi * step / self.steps)) / 2
            length = 1 + (LAST_STEP - 1) * fallen
            gamma = self.gamma + (self.last_gamma - self.gamma) * fallen
            direction = ball.ascent_direction(grad, goal.x)
            moves = direction.flatten(1).any(dim=1).view_as(radius)
            offset = torch.add(offset, torch.where(moves, direction, aside), alpha=length)
            radius = torch.where(success, (1 - gamma) * radius, (1 + gamma) * radius).clamp(max=diagonal)
            size = lengths(offset.flatten(1), "L2").view_as(radius).clamp(min=TINY)
            offset = torch.addcmul(goal.x, offset, radius / size).clamp_(0, 1).sub_(goal.x)
        goal.logits(goal.x + offset)
