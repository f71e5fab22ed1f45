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

__all__ = ["CutMix", "MixUp", "Mixing"]


class Mixing(ABC):
    """Joins every training image with another one of its batch; labels become probabilities of the classes [N, K].

    A subclass is :meth:`join`. Every image has a share of its own. What is drawn depends on the generator alone, as
    augmentation does.

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
        self, images: Tensor, label: Tensor, classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] and probabilities [N, K].

        Args:
            images: float, in [0, 1].
            label: [N] classes, or [N, K] probabilities that are joined again.
            classes: K.
            generator: on the CPU; all randomness comes from it.
        """
        count = len(images)
        other = torch.randperm(count, generator=generator).to(images.device)
        joined = torch.rand(count, generator=generator) < self.share
        # torch draws from a beta distribution by its global generator only
        drawn = np.random.default_rng(int(torch.randint(2**63 - 1, (1,), generator=generator)))
        kept = torch.where(joined, torch.from_numpy(drawn.beta(self.alpha, self.alpha, count)).float(), 1.0)
        images, kept = self.join(images, images[other], kept, generator)
        truth = F.one_hot(label, classes).float() if label.dim() == 1 else label
        kept = kept.to(images.device)[:, None]
        return images, kept * truth + (1 - kept) * truth[other]

    @abstractmethod
    def join(self, images: Tensor, others: Tensor, kept: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Joined images, and the shares [N] on the CPU that are left of ``images`` where ``kept`` [N] are wanted."""


class MixUp(Mixing):
    """The mean of two images, weighted (Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018)."""

    def join(self, images: Tensor, others: Tensor, kept: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Weighted means."""
        weight = kept.to(images.device).view(-1, 1, 1, 1)
        return weight * images + (1 - weight) * others, kept


class CutMix(Mixing):
    """A box of another image, whose label counts by the box's share of the pixels (Yun et al., CutMix, 2019)."""

    def join(self, images: Tensor, others: Tensor, kept: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images with a box; cut off at the border, it covers less than was wanted."""
        side = (1 - kept).sqrt()
        sides = torch.stack([(side * length).long() for length in images.shape[2:]])
        inside = boxes(images.shape, sides, generator)
        return torch.where(inside.to(images.device), others, images), 1 - inside.float().mean(dim=(1, 2, 3))
