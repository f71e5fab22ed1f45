"""TRADES (Zhang et al., 2019): trade clean accuracy against the stability of the prediction.

loss = L(f(x), y) + beta KL(f(x) || f(x_adv)),   x_adv = argmax KL(f(x) || f(x')) over the eps-ball
"""

import torch
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.attacks import PGD, Attack, Classifier, leaves_no_trace
from lightning_adv.attacks.losses import divergence
from lightning_adv.errors import InputError
from lightning_adv.objectives.attacked import AttackedObjective

__all__ = ["TRADES"]


class TRADES(AttackedObjective):
    """Cross-entropy of clean images plus beta times the divergence of the attacked prediction from the clean one.

    The attack moves away from the clean prediction: it is given probabilities for labels, and the gradient of the
    cross-entropy against fixed probabilities is that of the KL divergence.

    Args:
        attack: default the paper's PGD: eps 0.031, step 0.007, 10 steps, gaussian start.
        beta: weight of the divergence (6 in the paper's main result).
        **shared: see ``AttackedObjective``.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = TRADES(PGD(eps=0.1, steps=2))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(
        self,
        attack: Attack | None = None,
        beta: float = 6.0,
        **shared: str | float | bool,
    ) -> None:
        attack = attack or PGD(eps=0.031, step_size=0.007, steps=10, start="gaussian")
        super().__init__(attack, **shared)
        if beta < 0:
            raise InputError(f"beta must not be negative, got {beta}")
        self.beta = beta

    def craft(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """Images whose prediction is far from the clean one."""
        with leaves_no_trace(model, self.attack_mode), torch.no_grad():
            prediction = logits_of(model, x).softmax(dim=1)
        return super().craft(model, x, prediction)

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        # Two forwards, as in the reference: each kind of image is normalised by its own batch statistics.
        clean_logits, logits = logits_of(model, x), logits_of(model, x_adv)
        moved = divergence(clean_logits, logits).mean()
        return self.cross_entropy(clean_logits, y) + self.beta * moved, clean_logits.detach()
