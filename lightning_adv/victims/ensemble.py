"""A vote of experts of several learning techniques (Papernot et al., 2016)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS
from lightning_adv.attacks.oracle import LabelOracle, predicted_labels
from lightning_adv.errors import InputError
from lightning_adv.victims.victim import LEAST_PROBABILITY

__all__ = ["EnsembleVictim"]


class EnsembleVictim(nn.Module):
    """Every expert has one vote; the class of most votes wins, the lowest number among equals.

    Args:
        experts: fitted victims, modules or functions: images to labels [N] or logits [N, K].
        num_classes: K.

    Raises:
        InputError: no expert, fewer than two classes; when called, an expert that names a class from K on.

    Example:
        >>> dark = lambda x: torch.zeros(len(x), dtype=torch.int64)
        >>> bright = lambda x: (x.mean(dim=(1, 2, 3)) > 0.5).long()
        >>> EnsembleVictim([dark, bright, bright], num_classes=2)(torch.ones(1, 1, 2, 2)).argmax(dim=1)
        tensor([1])
    """

    def __init__(self, experts: Sequence[LabelOracle], num_classes: int) -> None:
        super().__init__()
        if not experts or num_classes < 2:
            raise InputError(f"an ensemble needs an expert and two classes, got {len(experts)} and {num_classes}")
        self.experts, self.num_classes = tuple(experts), num_classes
        self._modules_of_experts = nn.ModuleList(each for each in experts if isinstance(each, nn.Module))

    def forward(self, image: Tensor) -> Tensor:
        """Log of the share of votes [N, K]; no gradient passes a vote."""
        if torch.is_grad_enabled() and image.requires_grad:
            raise InputError("a vote has no gradient: attack a substitute (SubstituteAttack) and judge the images here")
        votes = torch.zeros(len(image), self.num_classes, device=image.device)
        for number, expert in enumerate(self.experts):
            label = predicted_labels(expert, image)
            if len(label) and not NO_CLASS <= int(label.min()) <= int(label.max()) < self.num_classes:
                raise InputError(f"expert {number} of the ensemble names a class outside [0, {self.num_classes})")
            votes += F.one_hot(label + 1, self.num_classes + 1)[:, 1:]  # who names no class does not vote
        return (votes / len(self.experts)).clamp_min(LEAST_PROBABILITY).log()
