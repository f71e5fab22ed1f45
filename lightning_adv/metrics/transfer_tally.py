"""Counting what of a source's adversarial images deceives a model, so that the shards of several ranks add up."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["TransferTally"]


class TransferTally(Metric):
    """Images that a model had right, that a source got wrong under attack, and what the model made of these.

    ``compute`` gives five counts: all images; right clean; right clean and right attacked; right clean and the source
    deceived; of the last those that deceive the model too.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(5, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, clean: Tensor, attacked: Tensor, deceived: Tensor) -> None:
        """Add a batch.

        Args:
            clean, attacked: [N] bool, whether the model is right on the image and on the source's adversarial one.
            deceived: [N] bool, whether the source is wrong on its adversarial image.
        """
        both = clean & deceived
        kinds = (torch.ones_like(clean), clean, clean & attacked, both, both & ~attacked)
        self.counts += torch.stack([kind.sum() for kind in kinds]).to(self.counts.device)

    def compute(self) -> Tensor:
        """The five counts over all ranks."""
        return self.counts
