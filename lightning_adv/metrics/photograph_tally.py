"""Predictions for attacked images and for photographs of these, kept so that the shards of several ranks add up."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_adv.asking import predicted
from lightning_adv.metrics.outcomes import class_ranks

__all__ = ["PhotographTally"]

TOP = 5


class PhotographTally(Metric):
    """What a model says of each image, of the image under attack and of a photograph of this.

    ``compute`` gives one row an image, in no order: label; the classes said of the clean image, of the attacked one and
    of its photograph, ``NO_CLASS`` for NaN; then 0 or 1: whether the class said under attack was among the five
    likeliest before and the label still is (see ``outcomes``), and whether the label is among the five likeliest under
    attack, and in the photograph.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx="cat")
        nothing = torch.zeros(0, 2)
        self.update(nothing[:, 0].long(), nothing, nothing, nothing)  # a rank without an image has a table to gather

    def update(self, label: Tensor, clean: Tensor, attacked: Tensor, photographed: Tensor) -> None:
        """Add a batch: labels [N], and logits [N, K] of the images, of these attacked, of the photographs."""
        said = predicted(attacked)
        under_attack = class_ranks(attacked, label) < TOP
        columns = (
            label,
            predicted(clean),
            said,
            predicted(photographed),
            (class_ranks(clean, said) < TOP) & under_attack,
            under_attack,
            class_ranks(photographed, label) < TOP,
        )
        self.rows.append(torch.stack([column.long() for column in columns], dim=1))

    def compute(self) -> Tensor:
        """[N, 7] int64 over all ranks."""
        return dim_zero_cat(self.rows)
