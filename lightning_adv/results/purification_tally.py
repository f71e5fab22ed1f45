"""Counting how a randomised classifier fares over several draws, so that the shards of several ranks add up."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from lightning_adv.asking import NO_CLASS, predicted

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
        shapes = {"correct": (draws,), "pooled": (5,), "confusion": (num_classes, num_classes)}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, label: Tensor, logits: Tensor) -> None:
        """Add a batch: labels [N] and logits [D, N, K]."""
        said = predicted(logits)  # [D, N]
        right = said == label
        self.correct += right.sum(dim=1)
        mean = predicted(logits.softmax(dim=2).mean(dim=0))
        votes = F.one_hot(said + 1, self.num_classes + 1).sum(dim=0)[:, 1:]  # a draw of NaN votes for nobody
        vote = torch.where(votes.any(dim=1), votes.argmax(dim=1), NO_CLASS)
        nothing = (said == NO_CLASS).any(dim=0)
        counts = ((mean == label).sum(), (vote == label).sum(), right.all(dim=0).sum(), nothing.sum())
        self.pooled += torch.stack([*counts, label.new_tensor(len(label))])
        known = said[0] != NO_CLASS
        places = label[known] * self.num_classes + said[0][known]
        self.confusion += torch.bincount(places, minlength=self.num_classes**2).view_as(self.confusion)

    def compute(self) -> dict[str, Tensor]:
        """Over all ranks: ``correct`` [D], ``mean``, ``vote``, ``worst``, ``samples``, ``confusion`` [K, K].

        ``no_class`` counts the images with NaN logits in some draw, which the confusion leaves out.
        """
        names = ("mean", "vote", "worst", "no_class", "samples")
        return {"correct": self.correct, "confusion": self.confusion, **dict(zip(names, self.pooled, strict=True))}
