"""Fewer grey levels (BppAttack; Wang et al., 2022).

    x' = round((d - 1) x) / (d - 1)                    with d levels; optionally Floyd and Steinberg's dithering
    cover_i = clip(x_i + x'_j - x_j),   j another image

What is learnt is that an image lies on the grid of levels: a cover image (the paper's negative) has what another image
lost on its way there, and keeps its label.
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.backdoors.trigger import Trigger
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images

__all__ = ["BPP"]

SPREAD = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))
"""Where Floyd and Steinberg pass a pixel's error on to: rows down, columns right, share."""

KEPT = 1000
"""Images whose errors are kept for cover images."""


class BPP(Trigger):
    """Images of few grey levels; cover images carry another image's rounding error (Wang et al., 2022).

    The paper poisons a tenth of the images and covers a tenth. The sampling rate of cover images has no part in it; the
    errors are those of the poisoned images.

    Args:
        levels: d, grey levels of each channel.
        dither: pass each pixel's error on to its neighbours (Floyd and Steinberg).

    Raises:
        InputError: fewer than 2 levels.

    Example:
        >>> BPP(levels=3)(torch.tensor([[[[0.1, 0.3, 0.6, 0.9]]]])).flatten()
        tensor([0.0000, 0.5000, 0.5000, 1.0000])
    """

    def __init__(self, levels: int = 8, dither: bool = False) -> None:
        if levels < 2:
            raise InputError(f"levels must be at least 2, got {levels}")
        self.levels, self.dither = levels, dither
        self._errors: Tensor | None = None

    prepares: ClassVar[bool] = True

    def apply(self, x: Tensor) -> Tensor:
        """Each pixel's nearest level."""
        return self._dithered(x) if self.dither else self._nearest(x)

    def prepare(self, images: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Keep what the first thousand poisoned images lose to the grid, for cover images."""
        errors, kept = [], 0
        for x, _label, _index in images:
            errors.append(self(x) - x)
            kept += len(x)
            if kept >= KEPT:
                break
        self._errors = torch.cat(errors)[:KEPT].cpu()  # workers of a loader may ask for them

    def cover(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Images with the rounding error of a poisoned image each; ``rate`` has no part in it.

        Raises:
            InputError: before :meth:`prepare`, images of another shape than those that it was given.
        """
        check_images(x)
        if self._errors is None or self._errors.shape[1:] != x.shape[1:]:
            raise InputError("cover images of BPP carry the errors of other images: give those to prepare() first")
        draw = SampleNoise(seed, index).uniform(x.new_zeros(len(x), 1, dtype=torch.float32))[:, 0]
        self._errors = self._errors.to(x.device)
        return (x + self._errors[(draw * len(self._errors)).long()].to(x)).clamp(0, 1)

    def _nearest(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def _dithered(self, x: Tensor) -> Tensor:
        """In waves of pixels that do not wait for each other: column + 2 row is the same."""
        height, width = x.shape[2:]
        left = F.pad(x.float(), (1, 1, 0, 1))  # [N, C, H + 1, W + 2]: errors at the edges fall into the frame
        chosen = torch.empty_like(x)
        for wave in range(width + 2 * (height - 1)):
            rows = torch.arange(max(0, (wave - width + 2) // 2), min(height - 1, wave // 2) + 1, device=x.device)
            columns = wave - 2 * rows
            here = left[..., rows, columns + 1]
            level = self._nearest(here)
            chosen[..., rows, columns] = level.to(x)
            for down, right, share in SPREAD:
                left[..., rows + down, columns + 1 + right] += share * (here - level)
        return chosen
