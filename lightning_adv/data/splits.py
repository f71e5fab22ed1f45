"""Seeded, stratified cuts of a labelled set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_adv.data.seeds import derive_seed
from lightning_adv.errors import InputError

__all__ = ["in_random_order", "number_of_images", "stratified_cuts"]


def number_of_images(size: int | float, total: int, name: str) -> int:
    """``size`` as a number of images: an int is one, a float in [0, 1) a share of ``total``, at least one image.

    A whole float from 2 on is a number, too: the command line may read ``2`` as either. 1.0 may be meant as a share.
    """
    if isinstance(size, float) and 0 <= size < 1:
        return max(1, round(size * total)) if size else 0
    if not isinstance(size, bool) and size >= 0 and (isinstance(size, int) or (size >= 2 and size.is_integer())):
        return int(size)
    raise InputError(f"{name} must be a number of images (an int >= 0) or a share of them (0 <= float < 1), got {size}")


def stratified_cuts(labels: Tensor, sizes: Sequence[int], seed: int, groups: Tensor | None = None) -> list[Tensor]:
    """Disjoint cuts of ``sizes`` images, each with the class shares of the whole, and what remains, as positions.

    A cut comes in random order, so that its first k images are a fair sample; the remainder comes in ascending order.
    Groups are never torn apart, at the price of sizes that are met only as closely as whole groups allow.

    Args:
        labels: int64 [N].
        sizes: images in each cut.
        seed: of the choice; the same seed gives the same cuts.
        groups: int64 [N], images of one physical object; default every image is its own group.

    Returns:
        ``len(sizes) + 1`` int64 tensors, the last one the remainder.

    Raises:
        InputError: if the cuts ask for more images than there are.
    """
    if sum(sizes) > len(labels):
        raise InputError(f"cuts of {', '.join(map(str, sizes))} images need more than the {len(labels)} there are")
    generator = torch.Generator().manual_seed(derive_seed(seed))
    # Units are what is never torn apart: groups within a class, or single images.
    classes = labels.unique(return_inverse=True)[1]
    keys = torch.stack([classes, torch.arange(len(labels)) if groups is None else groups], dim=1)
    units, unit_of_image = keys.unique(dim=0, return_inverse=True)
    weights = unit_of_image.bincount()
    owner = torch.full((len(units),), len(sizes))
    shuffled = torch.randperm(len(units), generator=generator)
    for cut, size in enumerate(sizes):
        free = shuffled[owner[shuffled] == len(sizes)]
        counts = torch.zeros(int(classes.max()) + 1, dtype=torch.long).index_add_(0, units[free, 0], weights[free])
        for one_class, share in enumerate(_proportional(counts, size)):
            candidates = free[units[free, 0] == one_class]
            reached = torch.cat([torch.zeros(1, dtype=torch.long), weights[candidates].cumsum(0)])
            owner[candidates[: int((reached - share).abs().argmin())]] = cut
    image_owner = owner[unit_of_image]
    cuts = [(image_owner == cut).nonzero().flatten() for cut in range(len(sizes) + 1)]
    return [cut[torch.randperm(len(cut), generator=generator)] for cut in cuts[:-1]] + cuts[-1:]


def in_random_order(labels: Tensor, seed: int) -> Tensor:
    """Positions in an order whose first k images are a fair sample: a random one if the set is sorted by class."""
    is_sorted = bool((labels.diff() >= 0).all())
    if not is_sorted:
        return torch.arange(len(labels))
    return torch.randperm(len(labels), generator=torch.Generator().manual_seed(derive_seed(seed)))


def _proportional(counts: Tensor, size: int) -> list[int]:
    # Largest remainders: the shares add up to size and none exceeds its count.
    exact = counts.double() * size / max(1, int(counts.sum()))
    shares = exact.floor().long()
    by_remainder = (exact - shares).argsort(descending=True, stable=True)
    shares[by_remainder[: size - int(shares.sum())]] += 1
    return shares.tolist()
