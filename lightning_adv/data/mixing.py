"""Training images joined in pairs, with labels that say how much there is of each class.

x = lambda x_i + (1 - lambda) x_j,   y = lambda y_i + (1 - lambda) y_j,   lambda ~ Beta(alpha, alpha)
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.data.augmentation import boxes
from lightning_adv.errors import InputError

__all__ = ["CutMix", "MixUp", "Mixing", "partners"]

APART = (8, 4, 2, 1)
"""Places that are between two images that may be joined; processes of such a number have both of them."""

FEWEST = 8
"""Images that one must be able to be joined with, itself among them, for images to be so far apart."""


class Mixing(ABC):
    """Joins every training image with another one of its batch; labels become probabilities of the classes [N, K].

    A subclass is :meth:`join`. Every image has a share and a place of its own. What is drawn depends on the generator
    alone, as augmentation does, and is drawn for the batches of all processes together: an image is joined alike, with
    the same other one, whether 1, 2, 4 or 8 processes share a batch of 64 images or more of which 8 is a divisor (of 32
    or more: 1, 2 or 4; of 16: 1 or 2). With other numbers of processes shares and places are the same still, and
    partners are those that a process has.

    Args:
        alpha: of the distribution Beta(alpha, alpha) of an image's share; 1 is uniform, small values leave most of one.
        share: of the images that are joined at all.

    Raises:
        InputError: alpha not positive, or a share outside [0, 1].

    Example:
        >>> images, label = torch.rand(4, 1, 6, 6), torch.tensor([0, 2, 1, 1])
        >>> _, truth = MixUp(alpha=1.0)(images, label, 3, torch.Generator())
        >>> truth.shape, truth.sum(dim=1)
        (torch.Size([4, 3]), tensor([1., 1., 1., 1.]))
    """

    def __init__(self, alpha: float = 1.0, share: float = 1.0) -> None:
        if alpha <= 0 or not 0 <= share <= 1:
            raise InputError(f"{type(self).__name__} needs alpha > 0 and a share in [0, 1], got {alpha} and {share}")
        self.alpha, self.share = alpha, share

    def __call__(
        self,
        images: Tensor,
        label: Tensor,
        classes: int,
        generator: torch.Generator,
        processes: int = 1,
        rank: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] and probabilities [N, K].

        Args:
            images: float, in [0, 1].
            label: [N] classes, or [N, K] probabilities that are joined again.
            classes: K.
            generator: on the CPU, the same on all processes; all randomness comes from it.
            processes: that share the batch, each with N images of it, in turn.
            rank: of this one.
        """
        count, mine = len(images) * processes, slice(rank, None, processes)
        other = (partners(count, processes, generator)[mine] // processes).to(images.device)
        joined = torch.rand(count, generator=generator) < self.share
        place = torch.rand(2, count, generator=generator)
        # torch draws from a beta distribution by its global generator only
        drawn = np.random.default_rng(int(torch.randint(2**63 - 1, (1,), generator=generator)))
        kept = torch.where(joined, torch.from_numpy(drawn.beta(self.alpha, self.alpha, count)).float(), 1.0)
        images, kept = self.join(images, images[other], kept[mine], place[:, mine])
        truth = F.one_hot(label, classes).float() if label.dim() == 1 else label
        kept = kept.to(images.device)[:, None]
        return images, kept * truth + (1 - kept) * truth[other]

    @abstractmethod
    def join(self, images: Tensor, others: Tensor, kept: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Joined images, and the shares [N] on the CPU that are left of ``images`` where ``kept`` [N] are wanted.

        Args:
            images: [N, C, H, W].
            others: that they are joined with.
            kept: on the CPU, in [0, 1].
            place: [2, N] on the CPU, uniform in [0, 1): where in its image something may be.
        """


class MixUp(Mixing):
    """The mean of two images, weighted (Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018)."""

    def join(self, images: Tensor, others: Tensor, kept: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted means."""
        weight = kept.to(images.device).view(-1, 1, 1, 1)
        return weight * images + (1 - weight) * others, kept


class CutMix(Mixing):
    """A box of another image, whose label counts by the box's share of the pixels (Yun et al., CutMix, 2019)."""

    def join(self, images: Tensor, others: Tensor, kept: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Images with a box; cut off at the border, it covers less than was wanted."""
        lengths = torch.tensor(images.shape[2:])[:, None]
        inside = boxes(images.shape, ((1 - kept).sqrt() * lengths).long(), (place * lengths).long())
        return torch.where(inside.to(images.device), others, images), 1 - inside.float().mean(dim=(1, 2, 3))


def partners(count: int, processes: int, generator: torch.Generator) -> Tensor:
    """[count] which image of a batch each is joined with: one of the same process, and not itself where there are more.

    Images lie on processes in turn, and those that are joined are a multiple of ``APART`` apart, so that every number
    of processes which divides that finds the same pairs on its own.

    Args:
        count: of the images in a batch of all processes.
        processes: that share it.
        generator: on the CPU.

    Example:
        >>> other = partners(64, 2, torch.Generator())
        >>> (other - torch.arange(64)).remainder(8).any(), (other == torch.arange(64)).any()
        (tensor(False), tensor(False))
    """
    apart = next(each for each in APART if each == 1 or (count % each == 0 and count >= FEWEST * each))
    apart = apart if apart % processes == 0 else processes
    places = torch.rand(count // apart, apart, generator=generator).argsort(dim=0) * apart + torch.arange(apart)
    other = torch.empty(count, dtype=torch.long)
    other[places] = places.roll(1, dims=0)
    return other
