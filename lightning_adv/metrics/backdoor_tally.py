"""Counting where a trigger leads images of each class, so that the shards of several ranks add up."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_adv.asking import NO_CLASS

__all__ = ["BackdoorTally"]


class BackdoorTally(Metric):
    """Two tables of label against prediction: of clean images, and of the same images with the trigger.

    The last column counts the images whose logits were NaN, which predict no class.

    Args:
        num_classes: K.
    """

    full_state_update = False
    clean: Tensor
    triggered: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name in ("clean", "triggered"):
            self.add_state(name, torch.zeros(num_classes, num_classes + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, label: Tensor, clean: Tensor, triggered: Tensor) -> None:
        """Add a batch: labels [N], and the predictions [N] for clean and for triggered images, ``NO_CLASS`` for NaN."""
        for table, prediction in ((self.clean, clean), (self.triggered, triggered)):
            column = torch.where(prediction == NO_CLASS, self.num_classes, prediction)
            places = label * (self.num_classes + 1) + column
            table += torch.bincount(places, minlength=table.numel()).view_as(table)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Over all ranks: [K, K + 1] counts of clean images and of triggered ones, rows are labels."""
        return self.clean, self.triggered
