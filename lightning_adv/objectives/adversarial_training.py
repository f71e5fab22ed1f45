"""Adversarial training (Madry et al., 2018) and Goodfellow's mixed objective (2015).

loss = a L(f(x), y) + (1 - a) L(f(x_adv), y),   x_adv = attack(f, x, y)
"""

import torch
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.attacks import PGD, Attack, Classifier
from lightning_adv.errors import InputError
from lightning_adv.objectives.attacked import AttackedObjective

__all__ = ["AdversarialTraining"]


class AdversarialTraining(AttackedObjective):
    """Cross-entropy of images attacked on the fly.

    Args:
        attack: crafts the images; default PGD with eps 8/255, step 2/255, 10 steps.
        clean_weight: a in the equation; 0 is Madry's objective, 0.5 Goodfellow's.
        **shared: see ``AttackedObjective``.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> objective = AdversarialTraining(PGD(eps=0.1, steps=2), clean_weight=0.5)
        >>> loss, logits = objective(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    judges = "robust"

    def __init__(
        self,
        attack: Attack | None = None,
        clean_weight: float = 0.0,
        **shared: str | float | bool,
    ) -> None:
        super().__init__(attack or PGD(step_size=2 / 255), **shared)
        if not 0 <= clean_weight <= 1:
            raise InputError(f"clean_weight must lie in [0, 1], got {clean_weight}")
        self.clean_weight = clean_weight

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and adversarial logits of a batch."""
        if self.clean_weight == 0:
            logits = logits_of(model, x_adv)
            return self.cross_entropy(logits, y), logits.detach()
        clean_logits, logits = logits_of(model, torch.cat([x, x_adv])).chunk(2)
        clean, adversarial = self.cross_entropy(clean_logits, y), self.cross_entropy(logits, y)
        return self.clean_weight * clean + (1 - self.clean_weight) * adversarial, logits.detach()
