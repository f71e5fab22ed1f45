"""A smooth warp of the image (WaNet; Nguyen and Tran, 2021).

    x'(p) = x(clamp(p + s F(p) / size))            F: k x k vectors of U(-1, 1), over their mean size, upsampled
    cover(p) = x(clamp(p + s F(p) / size + n(p) / size)),    n(p) ~ U(-1, 1) afresh for every pixel and image

with places p in [-1, 1]. A cover image (the paper's noise mode) keeps its label, so that no other warp than F is
learnt. One field n for all of them would be a second trigger.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.backdoors.trigger import ImageShape, Trigger
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images

__all__ = ["WaNet"]


class WaNet(Trigger):
    """An elastic warp that was drawn once; cover images add one of their own each (Nguyen and Tran, 2021).

    The paper poisons a tenth of the images and covers a fifth. The sampling rate of cover images has no part in it.

    Args:
        grid: k, vectors of the field along each side before it is upsampled.
        strength: s, in half pixels on average.
        seed: of the field.

    Raises:
        InputError: a grid below 2, a strength that is not positive.

    Example:
        >>> WaNet()(torch.eye(4)[None, None]).shape
        torch.Size([1, 1, 4, 4])
    """

    def __init__(self, grid: int = 4, strength: float = 0.5, seed: int = 0) -> None:
        if grid < 2 or not strength > 0:
            raise InputError(f"a warp needs a grid of at least 2 and a strength above 0, got {grid} and {strength}")
        self.grid, self.strength, self.seed = grid, strength, seed
        self._drawn: dict[ImageShape, Tensor] = {}

    def apply(self, x: Tensor) -> Tensor:
        """x at the places of the field."""
        return _sampled(x, self.field(tuple(x.shape[1:])))

    def cover(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Images warped by the field and by a fresh rough one each; ``rate`` has no part in it."""
        check_images(x)
        noise = SampleNoise(seed, index).uniform(x.new_zeros(len(x), *x.shape[2:], 2, dtype=torch.float32))
        size = noise.new_tensor([x.shape[3], x.shape[2]])
        return _sampled(x, self.field(tuple(x.shape[1:])).to(noise) + (2 * noise - 1) / size)

    def field(self, shape: ImageShape) -> Tensor:
        """Places [1, H, W, 2] (column, row) in [-1, 1] that the pixels of such images are taken from."""
        if shape not in self._drawn:
            self._drawn[shape] = self._draw(*shape[1:])
        return self._drawn[shape]

    def _draw(self, height: int, width: int) -> Tensor:
        coarse = 2 * torch.rand(1, 2, self.grid, self.grid, generator=torch.Generator().manual_seed(self.seed)) - 1
        coarse = coarse / coarse.abs().mean()
        smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        here = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], dim=-1)
        return (here + self.strength * smooth / torch.tensor([width, height])).clamp(-1, 1)


def _sampled(x: Tensor, places: Tensor) -> Tensor:
    exact = x if x.dtype == torch.float64 else x.float()
    places = places.to(exact).clamp(-1, 1).expand(len(x), -1, -1, -1)
    return F.grid_sample(exact, places, align_corners=True).clamp(0, 1).to(x.dtype)
