"""What can be said of a digit without naming it: how thick its stroke is, how it leans, how many holes it has."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["HOLES", "LEANS", "NAMES", "WIDTHS", "Strokes", "holes", "leaning", "width"]

WIDTHS, LEANS, HOLES = ("thin", "medium", "thick"), ("left", "upright", "right"), ("no", "one", "two")
NAMES = [f"{width} {lean} stroke with {hole} holes" for width in WIDTHS for lean in LEANS for hole in HOLES]
"""What is said of each of the 27 kinds, in the order of their numbers."""
INK = 0.5


def width(image: np.ndarray) -> float:
    """Pixels across the stroke of an image [H, W] in [0, 1]: its area over half of its edge."""
    ink = image > INK
    edge = ink & ~ndimage.binary_erosion(ink)
    return 2 * ink.sum() / max(1, edge.sum())


def leaning(image: np.ndarray) -> float:
    """Columns to the right for each row up, by the second moments of an image [H, W]."""
    rows, columns = np.indices(image.shape)
    mass = max(image.sum(), 1e-9)
    row, column = ((image * each).sum() / mass for each in (rows, columns))
    return -(image * (rows - row) * (columns - column)).sum() / max((image * (rows - row) ** 2).sum(), 1e-9)


def holes(image: np.ndarray) -> int:
    """Parts of the ground of an image [H, W] that its ink encloses, two at most; a speck of a pixel is none."""
    ground = np.pad(image <= INK, 1, constant_values=True)
    parts, count = ndimage.label(ground)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    return min(2, int((np.delete(sizes, parts[0, 0] - 1) > 1).sum()))


@dataclass(frozen=True)
class Strokes:
    """Where thin ends and thick begins, and left and right: thirds of the images that are known.

    Args:
        widths: the two limits between the three widths.
        leans: those between the three ways to lean.
    """

    widths: tuple[float, float]
    leans: tuple[float, float]

    @classmethod
    def of(cls, images: Tensor) -> "Strokes":
        """The limits of images [N, 1, H, W] in [0, 1]."""
        known = images[:, 0].numpy()
        limits = [tuple(np.quantile([f(each) for each in known], (1 / 3, 2 / 3)).tolist()) for f in (width, leaning)]
        return cls(*limits)

    def __call__(self, images: Tensor) -> Tensor:
        """Numbers [N] of the kinds of images [N, 1, H, W]."""
        kinds = [
            (
                int(np.searchsorted(self.widths, width(each))),
                int(np.searchsorted(self.leans, leaning(each))),
                holes(each),
            )
            for each in images[:, 0].numpy()
        ]
        return torch.tensor([(across * len(LEANS) + lean) * len(HOLES) + hole for across, lean, hole in kinds])
