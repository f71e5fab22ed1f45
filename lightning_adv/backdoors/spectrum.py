"""The low frequencies of images, by the discrete cosine transform."""

import math

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["lowpass"]


def lowpass(x: Tensor, bands: int) -> Tensor:
    """Images [..., H, W] with their first ``bands`` x ``bands`` cosines alone: a projection.

    Raises:
        InputError: more bands than rows or columns.
    """
    height, width = x.shape[-2:]
    if not 1 <= bands <= min(height, width):
        raise InputError(f"{bands} bands of frequencies do not fit images of {height} x {width}")
    rows, columns = (_cosines(size, bands).to(x) for size in (height, width))  # [bands, size], orthonormal
    return rows.T @ (rows @ x @ columns.T) @ columns


def _cosines(size: int, bands: int) -> Tensor:
    angle = math.pi / size * torch.outer(torch.arange(bands), torch.arange(size) + 0.5).double()
    waves = angle.cos()
    return (waves / waves.norm(dim=1, keepdim=True)).float()
