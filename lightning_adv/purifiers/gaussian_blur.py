"""Gaussian smoothing, one of the oldest defences by filtering (here as in Tan, Te, Lai, 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["GaussianBlur"]

TRUNCATE = 4.0
"""Kernels end after so many standard deviations, as in SciPy."""


class GaussianBlur(Purifier):
    """Convolution with a Gaussian, of its own width along each axis; images are mirrored at their edges.

    At the source's widths (0 and 0.3 pixels) it changes an image by less than half a grey level.

    Args:
        sigma_x: standard deviation along the width, in pixels; 0 leaves that axis alone.
        sigma_y: along the height.

    Raises:
        InputError: a negative width; at the call, an image smaller than the kernel.

    Example:
        >>> GaussianBlur(sigma_x=1, sigma_y=1)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, sigma_x: float = 0.0, sigma_y: float = 0.3) -> None:
        super().__init__()
        for name, sigma in (("sigma_x", sigma_x), ("sigma_y", sigma_y)):
            if not 0 <= sigma < float("inf"):
                raise InputError(f"{name} must be finite and not negative, got {sigma}; it is a width in pixels")
        self.sigma_x, self.sigma_y = sigma_x, sigma_y

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """x * g_x * g_y."""
        return _blurred(_blurred(x, self.sigma_x, axis=3), self.sigma_y, axis=2)


def _blurred(x: Tensor, sigma: float, axis: int) -> Tensor:
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return x
    if radius >= x.shape[axis]:
        raise InputError(
            f"sigma {sigma} needs images of more than {radius} pixels along an axis of {x.shape[axis]}; lower it"
        )
    place = torch.arange(-radius, radius + 1, dtype=torch.float64, device=x.device)
    weight = torch.exp(-0.5 * (place / sigma) ** 2)
    weight = (weight / weight.sum()).to(x.dtype)
    padding = [radius, radius, 0, 0] if axis == 3 else [0, 0, radius, radius]
    padded = F.pad(x, padding, mode="reflect")
    length = x.shape[axis]
    return sum(weight[i] * padded.narrow(axis, i, length) for i in range(2 * radius + 1))
