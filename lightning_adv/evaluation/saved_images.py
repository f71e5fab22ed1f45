"""Adversarial images of an evaluation as files, for other programs: the very images that the verdicts are about."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_adv.evaluation.share import from_every_rank
from lightning_adv.files import replace_atomically
from lightning_adv.pixels import visible

__all__ = ["SavedImages", "write_images"]

COLUMNS = ("x", "x_adv", "y", "index", "clean_predicted", "predicted")
OWN = re.compile(r"\d{6,}\.png")


class SavedImages:
    """Images with what each attack made of them, of this rank.

    Args:
        numbers: [n] of the images in their data set, over all ranks.

    Example:
        >>> saved = SavedImages(torch.tensor([3, 5]))
        >>> saved.wants(torch.tensor([4, 5])).tolist()
        [False, True]
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self._parts: dict[str, list[Sequence[Tensor]]] = {}

    def wants(self, index: Tensor) -> Tensor:
        """[N] bool: which of a batch's images are among them."""
        return torch.isin(index, self.numbers.to(index.device))

    def add(self, attack: str, *columns: Tensor) -> None:
        """Take some images in: [M, C, H, W] clean and attacked, then [M] label, number and classes said of both."""
        self._parts.setdefault(attack, []).append([column.detach().cpu() for column in columns])

    def on_every_rank(self, trainer: Trainer) -> dict[str, dict[str, np.ndarray]]:
        """Of all ranks, in the order of the data set: attack to arrays by name; call on every rank."""
        joined: dict[str, list[Sequence[Tensor]]] = {}
        for parts in from_every_rank(trainer, self._parts):
            for attack, some in parts.items():
                joined.setdefault(attack, []).extend(some)
        found = {}
        for attack, parts in joined.items():
            columns = dict(zip(COLUMNS, map(torch.cat, zip(*parts, strict=True)), strict=True))
            order = columns["index"].argsort()
            found[attack] = {name: column[order].numpy() for name, column in columns.items()}
        return found


def write_images(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``images.npz`` with all arrays, ``labels.csv``, and each attacked image as a PNG file.

    A PNG file holds 8 bits a pixel, which may undo a small perturbation: a program reads the float32 of the archive.

    Args:
        folder: of one attack; PNG files of an earlier run that are not among these go.
        arrays: as :meth:`SavedImages.on_every_rank` gives them.
    """
    names = [f"{number:06d}.png" for number in arrays["index"].tolist()]
    for name, image in zip(names, visible(torch.from_numpy(arrays["x_adv"])).numpy(), strict=True):
        pixels = (255 * image.clip(0, 1)).round().astype(np.uint8).transpose(1, 2, 0)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        replace_atomically(folder / name, lambda file, picture=picture: picture.save(file, "png"))
    for old in folder.glob("*.png"):
        if OWN.fullmatch(old.name) and old.name not in names:
            old.unlink()
    replace_atomically(folder / "images.npz", lambda file: np.savez(file, **arrays))
    text = io.StringIO(newline="")
    columns = {"file": names} | {name: arrays[name].tolist() for name in COLUMNS[2:]}
    csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])
    replace_atomically(folder / "labels.csv", text.getvalue())
