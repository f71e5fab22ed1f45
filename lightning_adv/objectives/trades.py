"""TRADES (Zhang et al., 2019): trade clean accuracy against the stability of the prediction.

loss = L(f(x), y) + beta KL(f(x) || f(x_adv)),   x_adv = argmax KL(f(x) || f(x')) over the eps-ball
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import PGD, Attack, Classifier, leaves_no_trace
from lightning_adv.attacks.trace import forward_float32
from lightning_adv.errors import InputError
from lightning_adv.objectives.objective import Objective

__all__ = ["TRADES"]


class TRADES(Objective):
    """Cross-entropy of clean images plus beta times the divergence of the attacked prediction from the clean one.

    The attack moves away from the clean prediction: it is given probabilities for labels, and the gradient of the
    cross-entropy against fixed probabilities is that of the KL divergence.

    Args:
        attack: default the paper's PGD: eps 0.031, step 0.007, 10 steps, gaussian start.
        beta: weight of the divergence (6 in the paper's main result).
        label_smoothing: share of the label's probability spread over all classes.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = TRADES(PGD(eps=0.1, steps=2))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(self, attack: Attack | None = None, beta: float = 6.0, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing)
        if beta < 0:
            raise InputError(f"beta must not be negative, got {beta}")
        self.attack = attack or PGD(eps=0.031, step_size=0.007, steps=10, start="gaussian")
        self.beta = beta

    def __call__(self, model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        with leaves_no_trace(model), torch.no_grad():
            prediction = forward_float32(model, x).softmax(dim=1)
        x_adv = self.attack.craft(model, x, prediction)
        # Two forwards, as in the reference: each kind of image is normalised by its own batch statistics.
        clean_logits, logits = model(x).float(), model(x_adv).float()
        divergence = F.kl_div(
            logits.log_softmax(dim=1), clean_logits.log_softmax(dim=1), reduction="batchmean", log_target=True
        )
        return self.cross_entropy(clean_logits, y) + self.beta * divergence, clean_logits.detach()
