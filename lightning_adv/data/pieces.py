"""Images that take long to make, kept in files of a few each as they are made: a run that was killed goes on there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically

__all__ = ["ImagePieces"]


class ImagePieces:
    """``count`` images in files of ``piece`` each, 8-bit as picture files are; iterating gives them piece by piece.

    Args:
        folder: of the files; one for each way of making the images.
        count: images in all.
        piece: images in a file.
    """

    def __init__(self, folder: Path, count: int, piece: int) -> None:
        self.folder, self.count, self.piece = folder, count, piece

    def __len__(self) -> int:
        return -(-self.count // self.piece)

    def __iter__(self) -> Iterator[Tensor]:
        return (self.read(numbers) for numbers in self.shared_out(1, 0))

    def shared_out(self, ranks: int, rank: int) -> list[range]:
        """The numbers of the images in each piece that a rank makes."""
        starts = range(0, self.count, self.piece)[rank::ranks]
        return [range(start, min(start + self.piece, self.count)) for start in starts]

    def missing(self, ranks: int, rank: int) -> list[range]:
        """Those of them that nobody has made yet."""
        return [numbers for numbers in self.shared_out(ranks, rank) if not self._file(numbers).is_file()]

    def write(self, numbers: range, images: Tensor) -> None:
        """Keep images [N, C, H, W] in [0, 1] as this piece."""
        levels = (images * 255).round().byte().cpu().numpy()
        replace_atomically(self._file(numbers), lambda file: np.save(file, levels))

    def read(self, numbers: range) -> Tensor:
        """The uint8 images of a piece.

        Raises:
            InputError: the file is damaged or missing.
        """
        file = self._file(numbers)
        try:
            images = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{file} cannot be read ({error}); remove it, and its images are made again") from error
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(numbers):
            raise InputError(f"{file} does not hold {len(numbers)} images; remove it, and they are made again")
        return torch.from_numpy(images)

    def _file(self, numbers: range) -> Path:
        return self.folder / f"{numbers.start:08d}-{self.piece}.npy"
