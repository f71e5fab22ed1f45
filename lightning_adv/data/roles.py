"""Which training images a plan has poisoned, by their numbers in their source: what a scan is measured against."""

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from lightning_adv.backdoors import PoisonPlan
from lightning_adv.data.images import IndexedImages
from lightning_adv.data.poisoned_sets import MarkedImages, PoisonedPairs

__all__ = ["numbers_of", "poisoned_and_cover"]


def numbers_of(images: Dataset) -> Tensor:
    """Numbers int64 [N] of all images of a data set in their source; a stranger's are counted.

    A copy that covers has the number of its image plus more than any number of an image.
    """
    if isinstance(images, Subset) and isinstance(images.dataset, PoisonedPairs):
        return torch.as_tensor(images.indices, dtype=torch.long)
    return images.index if isinstance(images, IndexedImages) else torch.arange(len(images))


def poisoned_and_cover(images: Dataset, plan: PoisonPlan) -> tuple[Tensor, Tensor]:
    """Numbers of the images of a poisoned data set that are poisoned, and of those that are cover images."""
    numbers = numbers_of(images)
    images = images.dataset if isinstance(images, Subset) else images
    first_copy = int(numbers.max()) + 1
    if isinstance(images, MarkedImages):
        first_copy = images.stride
    elif isinstance(images, PoisonedPairs):
        first_copy = len(images.dataset)
    copies = numbers >= first_copy
    covers = copies if plan.cover_copies else torch.isin(numbers, plan.cover)
    return numbers[torch.isin(numbers, plan.poisoned) & ~copies], numbers[covers]
