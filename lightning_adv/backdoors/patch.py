"""A small patch in a fixed place (BadNets, Gu et al., 2017).

x' = (1 - m) x + m p        with m = 1, or less, inside the patch
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger
from lightning_adv.errors import InputError

__all__ = ["Patch", "Place", "placed_square"]

Place = Literal["top_left", "top_right", "bottom_left", "bottom_right", "centre"]
"""Where a patch sits."""


def placed_square(shape: ImageShape, size: int, place: Place, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a square of ``size`` pixels, ``margin`` pixels away from the edges that it lies at.

    Raises:
        InputError: it does not lie inside images of this shape.
    """
    _, height, width = shape
    if size < 1 or margin < 0 or size + margin > min(height, width):
        raise InputError(
            f"a trigger of {size} x {size} pixels with margin {margin} does not fit images of {height} x {width}"
        )
    top = {"t": margin, "b": height - margin - size, "c": (height - size) // 2}[place[0]]
    left = margin if place.endswith("left") else width - margin - size
    left = (width - size) // 2 if place == "centre" else left
    return slice(top, top + size), slice(left, left + size)


class Patch(PatternTrigger):
    """A square of one colour, or a checkerboard of it and black.

    Args:
        size: side in pixels; BadNets on MNIST has 3, Neural Cleanse on GTSRB 4.
        place: corner, or centre.
        margin: pixels between the patch and the edges of its corner.
        colour: in [0, 1], one number or one a channel; default white.
        checkerboard: every second pixel is black.
        opacity: in (0, 1]; default opaque.

    Raises:
        InputError: an unknown place, a colour or opacity outside [0, 1]; in a call, images that it does not fit.

    Example:
        >>> Patch(size=1, place="top_left")(torch.zeros(1, 1, 2, 2)).flatten()
        tensor([1., 0., 0., 0.])
    """

    def __init__(
        self,
        size: int = 3,
        place: Place = "bottom_right",
        margin: int = 0,
        colour: float | list[float] = 1.0,
        checkerboard: bool = False,
        opacity: float | None = None,  # no number: what a patch is called in reports stays as it is
    ) -> None:
        if place not in get_args(Place):
            raise InputError(f"place of a patch must be one of {', '.join(get_args(Place))}, got {place!r}")
        channels = colour if isinstance(colour, Sequence) else [colour]
        if not channels or not all(0 <= value <= 1 for value in channels):
            raise InputError(f"colour of a patch must lie in [0, 1], got {colour}")
        if opacity is not None and not 0 < opacity <= 1:
            raise InputError(f"opacity of a patch must lie in (0, 1], got {opacity}")
        self.size, self.place, self.margin, self.colour, self.checkerboard = size, place, margin, colour, checkerboard
        self.opacity = opacity

    def mask_and_pattern(self, shape: ImageShape) -> tuple[Tensor, Tensor]:
        """Its opacity inside the square; its colour.

        Raises:
            InputError: a patch that lies outside, or a colour of another number of channels.
        """
        channels = list(self.colour) if isinstance(self.colour, Sequence) else [self.colour] * shape[0]
        if len(channels) != shape[0]:
            raise InputError(f"colour of the patch has {len(channels)} channels, the images have {shape[0]}")
        rows, columns = placed_square(shape, self.size, self.place, self.margin)
        mask, pattern = torch.zeros(1, *shape[1:]), torch.zeros(shape)
        mask[:, rows, columns] = 1 if self.opacity is None else self.opacity
        pattern[:, rows, columns] = torch.tensor(channels, dtype=torch.float32)[:, None, None]
        if self.checkerboard:
            side = torch.arange(self.size)
            pattern[:, rows, columns] *= ((side[:, None] + side) % 2 == 0).float()
        return mask, pattern
