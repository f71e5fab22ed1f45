"""Counting what an attack does to a classifier, so that the shards of several ranks add up."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_adv.asking import confident

__all__ = ["AttackTally", "CleanTally"]


class CleanTally(Metric):
    """Images, correct ones and those that stay correct under every attack, by class; confidences image by image.

    Args:
        num_classes: K.
    """

    full_state_update = False
    per_class: Tensor
    confidence: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("per_class", torch.zeros(3, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("confidence", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, label: Tensor, always_correct: Tensor) -> None:
        """Add a batch: clean logits [N, K], labels [N], and [N] whether no attack changed a correct answer."""
        prediction, confidence = confident(logits)
        counted = torch.stack([torch.ones_like(always_correct), prediction == label, always_correct])
        self.per_class.index_add_(1, label, counted.long())
        self.confidence.append(confidence)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Counts [3, K] (images, clean correct, worst-case correct) and confidences [N], over all ranks.

        A confidence is NaN where the logits were.
        """
        return self.per_class, _joined(self.confidence)


class AttackTally(Metric):
    """What one attack did: correct images by class, sizes of its perturbations, confidences, signs of masking.

    Args:
        num_classes: K.
        num_stages: attacks of an ensemble.
    """

    full_state_update = False
    correct: Tensor
    sums: Tensor
    counts: Tensor
    stages: Tensor
    confidence: list[Tensor]
    distance: list[Tensor]

    def __init__(self, num_classes: int, num_stages: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("correct", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(3, dtype=torch.double), dist_reduce_fx="sum")  # Linf, L2, L1 of successes
        # attacked, succeeded, succeeded at the first restart, met a zero gradient
        self.add_state("counts", torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")
        # images attacked, images broken, seconds; gathering wants at least one row
        self.add_state("stages", torch.zeros(max(num_stages, 1), 3, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("confidence", [], dist_reduce_fx="cat")
        self.add_state("distance", [], dist_reduce_fx="cat")

    def update(
        self,
        label: Tensor,
        robust: Tensor,
        confidence: Tensor,
        sizes: Tensor,
        restart: Tensor,
        zero_gradient: Tensor,
        distance: Tensor | None = None,
    ) -> None:
        """Add a batch of N images of which M, the initially correct ones, were attacked.

        Args:
            label: [N] labels.
            robust: [N] correct before and after the attack.
            confidence: [N] probability of the predicted class after the attack, NaN where there is none.
            sizes: [M, 3] Linf, L2 and L1 norm of the perturbations.
            restart: [M] number of the restart that succeeded first, -1 for none.
            zero_gradient: [M] whether the attack met a zero gradient.
            distance: [N] of a minimal-norm attack: how far the nearest misclassified image is, 0 for an image that is
                wrong without an attack, infinity where none was found.
        """
        self.correct.index_add_(0, label, robust.long())
        success = restart >= 0
        self.counts += torch.stack([torch.ones_like(success), success, restart == 0, zero_gradient]).sum(dim=1)
        self.sums += torch.where(success[:, None], sizes, 0.0).sum(dim=0)
        self.confidence.append(confidence)
        if distance is not None:
            self.distance.append(distance)

    def add_stages(self, stages: Tensor) -> None:
        """Add [num_stages, 3] what the attacks of an ensemble did: images attacked, images broken, seconds."""
        self.stages += stages

    def compute(self) -> dict[str, Tensor]:
        """Over all ranks, by name: the states, ``confidence`` [N] and ``distance`` [N] (or none) joined."""
        sums = {"correct": self.correct, "sums": self.sums, "counts": self.counts, "stages": self.stages}
        return sums | {"confidence": _joined(self.confidence), "distance": _joined(self.distance)}


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """One vector of the batches' [N], empty for none; gathering the ranks has joined them already."""
    return torch.zeros(0) if isinstance(parts, list) and not parts else dim_zero_cat(parts)
