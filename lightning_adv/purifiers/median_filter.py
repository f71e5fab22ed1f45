"""Median smoothing (feature squeezing; Xu, Evans, Qi, 2018)."""

import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["MedianFilter"]


class MedianFilter(Purifier):
    """Every pixel becomes the median of the square around it, channel by channel; images are mirrored at their edges.

    Its gradient, one for the pixel that is the median and zero for the others, is exact almost everywhere.

    Args:
        size: side of the square in pixels, odd.

    Raises:
        InputError: an even size or one below 3; at the call, an image smaller than the square.

    Example:
        >>> x = torch.zeros(1, 1, 5, 5)
        >>> x[0, 0, 2, 2] = 1
        >>> MedianFilter(3)(x).sum()
        tensor(0.)
    """

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        if size < 3 or size % 2 == 0:
            raise InputError(f"size must be odd and at least 3, got {size}")
        self.size = size

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """median of x over the square."""
        margin = self.size // 2
        if margin >= min(x.shape[2:]):
            raise InputError(f"size {self.size} does not fit images of {x.shape[2]} x {x.shape[3]} pixels; lower it")
        padded = F.pad(x, [margin] * 4, mode="reflect")
        return padded.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4).median(dim=4).values
