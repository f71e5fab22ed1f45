"""GradAlign (Andriushchenko and Flammarion, 2020): a net that is nearly linear inside the ball does not collapse.

loss = L(f(x_adv), y) + lambda (1 - mean cos(grad_x L(f(x), y), grad_x L(f(x + u), y))),   u ~ U(-eps, eps)

x_adv is one step of FGSM from the image itself.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lightning_adv.asking import Classifier, logits_of, without_records
from lightning_adv.attacks import FGSM
from lightning_adv.attacks.ball import Ball
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.noise import DeviceNoise
from lightning_adv.errors import InputError
from lightning_adv.objectives.adversarial_training import AdversarialTraining

__all__ = ["GradAlign"]

WEIGHTS = {1: 0.027, 2: 0.036, 4: 0.063, 6: 0.112, 8: 0.200, 10: 0.356, 12: 0.632, 16: 2.0}
"""The paper's lambda on CIFAR-10 by eps in grey levels; on a straight line in the logarithm from 8 on."""

FAINT = 1e-19
"""A gradient whose entries are smaller is that of a certain answer; differentiating its direction would overflow."""


class GradAlign(AdversarialTraining):
    """Adversarial training with FGSM that keeps gradients aligned in the ball (Andriushchenko and Flammarion, 2020).

    The gradient at the noisy image is differentiated again, that at the image itself is held fixed, as in the paper's
    code. A step costs about three times one of ``FastAdversarialTraining``. Both gradients are taken in the model's
    training mode, and leave no trace on the statistics of BatchNorm.

    Args:
        eps: radius of the Linf ball, in pixel units of [0, 1].
        weight: lambda; default the paper's for this eps, interpolated in the logarithm between those for 1/255 to
            16/255, and the nearest of them outside.
        **shared: see ``AttackedObjective``.

    Raises:
        InputError: a negative weight, eps out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> objective = GradAlign("8/255")
        >>> objective(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))[0].requires_grad, objective.weight
        (True, 0.2)
    """

    def __init__(self, eps: Budget = 8 / 255, weight: float | None = None, **shared: str | float | bool) -> None:
        radius = as_eps(eps, "Linf")
        super().__init__(attack=FGSM(radius), **shared)
        if weight is not None and weight < 0:
            raise InputError(f"weight must not be negative, got {weight}")
        self.weight = _published(radius) if weight is None else weight

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and adversarial logits of a batch."""
        loss, logits = super().loss(model, x, x_adv, y)
        return loss + self.weight * (1 - self.alignment(model, x, y)), logits

    def alignment(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """Mean cosine of the two gradients, differentiable; images with next to no gradient do not count."""
        ball = Ball(x.float(), self.attack.eps * self._share)
        fixed = self._gradient(model, ball.center, y).detach()
        moving = self._gradient(model, ball.random_point(DeviceNoise()), y)
        (fixed, there), (moving, also) = _directions(fixed), _directions(moving)
        counts = there & also
        cosines = torch.where(counts, (fixed * moving).sum(dim=1), 0.0)
        return torch.where(counts.any(), cosines.sum() / counts.sum().clamp(min=1), 1.0)

    def _gradient(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """[N, C, H, W] of each image's loss, with a graph; compiled code has no second derivative, and is not run."""
        x = x.detach().requires_grad_(True)
        with torch.compiler.set_stance("force_eager"):
            loss = self.cross_entropies(logits_of(without_records(model), x), y).sum()
            return torch.autograd.grad(loss, x, create_graph=True)[0]


def _directions(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [N, D] of gradients, and [N] where there is one; differentiable also where there is none."""
    flat = grad.flatten(1).float()
    largest = flat.detach().abs().amax(dim=1, keepdim=True)
    there = largest > FAINT
    scaled = torch.where(there, flat / torch.where(there, largest, 1.0), 1.0)  # squares of tiny numbers underflow
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True), there.squeeze(1)


def _published(eps: float) -> float:
    """The paper's lambda at ``eps``."""
    return math.exp(np.interp(255 * eps, list(WEIGHTS), [math.log(weight) for weight in WEIGHTS.values()]))
