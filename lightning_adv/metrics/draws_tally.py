"""Counting how a randomised classifier fares over several draws, so that the shards of several ranks add up."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

__all__ = ["DrawsTally"]


class DrawsTally(Metric):
    """Images classified correctly: in each draw, by the mean prediction, by a vote, and in every draw.

    Args:
        num_classes: K.
        draws: D.
    """

    full_state_update = False
    correct: Tensor
    pooled: Tensor
    confusion: Tensor

    def __init__(self, num_classes: int, draws: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        shapes = {"correct": (draws,), "pooled": (4,), "confusion": (num_classes, num_classes)}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, label: Tensor, logits: Tensor) -> None:
        """Add a batch: labels [N] and logits [D, N, K]."""
        said = logits.argmax(dim=2)  # [D, N]
        right = said == label
        self.correct += right.sum(dim=1)
        mean = logits.softmax(dim=2).mean(dim=0).argmax(dim=1)
        vote = F.one_hot(said, self.num_classes).sum(dim=0).argmax(dim=1)
        pooled = ((mean == label).sum(), (vote == label).sum(), right.all(dim=0).sum(), label.new_tensor(len(label)))
        self.pooled += torch.stack(pooled)
        places = label * self.num_classes + said[0]
        self.confusion += torch.bincount(places, minlength=self.num_classes**2).view_as(self.confusion)

    def compute(self) -> dict[str, Tensor]:
        """Over all ranks: ``correct`` [D], ``mean``, ``vote``, ``worst``, ``samples``, ``confusion`` [K, K]."""
        names = ("mean", "vote", "worst", "samples")
        return {"correct": self.correct, "confusion": self.confusion, **dict(zip(names, self.pooled, strict=True))}
