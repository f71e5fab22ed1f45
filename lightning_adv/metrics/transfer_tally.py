"""Counting what of a source's adversarial images deceives a model, so that the shards of several ranks add up."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_adv.asking import NO_CLASS

__all__ = ["TransferTally"]


class TransferTally(Metric):
    """Images that a model had right, that a source got wrong under attack, and what the model made of these.

    ``compute`` gives six counts: all images; right clean; right clean and right attacked; right clean and the source
    deceived; of the last those that deceive the model too; images whose logits were NaN, clean or attacked.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(6, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, label: Tensor, clean: Tensor, attacked: Tensor, deceived: Tensor) -> None:
        """Add a batch.

        Args:
            label: [N].
            clean, attacked: [N] classes that the model says of the image and of the source's adversarial one,
                ``NO_CLASS`` for NaN.
            deceived: [N] bool, whether the source is wrong on its adversarial image.
        """
        right, still = clean == label, attacked == label
        both = right & deceived
        nothing = (clean == NO_CLASS) | (attacked == NO_CLASS)
        kinds = (torch.ones_like(right), right, right & still, both, both & ~still, nothing)
        self.counts += torch.stack([kind.sum() for kind in kinds]).to(self.counts.device)

    def compute(self) -> Tensor:
        """The six counts over all ranks."""
        return self.counts
