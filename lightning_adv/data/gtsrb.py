"""The German traffic sign recognition benchmark (Stallkamp et al., 2012)."""

import csv
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import read_npz, require
from lightning_adv.data.images import InMemoryImages
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.pictures import read_picture

__all__ = ["GTSRB"]

_KEYS = ("x_train", "y_train", "track_train", "x_test", "y_test")


class GTSRB(ImageDataModule):
    """Traffic signs of 43 classes, whole pictures resized to 32 x 32: 39,209 training and 12,630 test images in full.

    Reads ``root/gtsrb_32x32.npz`` (arrays x_train, y_train, track_train, x_test, y_test; NHWC, uint8) or makes it once
    from the official folders ``root/gtsrb/GTSRB/Training``, ``Final_Test/Images`` and ``root/gtsrb/GT-final_test.csv``.
    A track is a film of one physical sign, some 30 near-duplicates: validation and calibration images are cut by track,
    never by picture. Signs have a left and a right: do not flip. Arguments: see ``ImageDataModule``.
    """

    num_classes = 43
    in_channels = 3
    image_size = (32, 32)
    mean = (0.3403, 0.3121, 0.3214)
    std = (0.2724, 0.2608, 0.2669)
    class_names: ClassVar[list[str]] = [
        *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
        *("end of speed limit 80", "speed limit 100", "speed limit 120", "no passing", "no passing for trucks"),
        *(
            "right of way at next intersection",
            "priority road",
            "yield",
            "stop",
            "no vehicles",
            "no trucks",
            "no entry",
        ),
        *("general caution", "dangerous curve left", "dangerous curve right", "double curve", "bumpy road"),
        *("slippery road", "road narrows on the right", "road work", "traffic signals", "pedestrians"),
        *("children crossing", "bicycles crossing", "ice or snow", "wild animals crossing", "end of all limits"),
        *("turn right ahead", "turn left ahead", "ahead only", "straight or right", "straight or left", "keep right"),
        *("keep left", "roundabout", "end of no passing", "end of no passing for trucks"),
    ]
    default_val_size = 0.1
    default_calibration_size = 0.1

    def prepare_data(self) -> None:
        """Download the official folders, if ``download`` is on; then resize their pictures once and keep the result."""
        if self._npz.exists():
            return
        if self.download:
            self._download()
        if not self._official.exists():
            return  # setup says what is missing
        arrays = self._resized_pictures()
        with suppress(InputError):  # a read-only root: every process resizes the pictures itself
            replace_atomically(self._npz, lambda file: np.savez_compressed(file, **arrays))

    def load(self) -> Sources:
        """Read the npz file, or the official folders if there is none."""
        if self._npz.exists():
            arrays = dict(zip(_KEYS, read_npz(self._npz, _KEYS), strict=True))
        else:
            arrays = self._resized_pictures()
        labels, tracks = (torch.from_numpy(arrays[key].astype("int64")) for key in ("y_train", "track_train"))
        return Sources(train=_images(arrays, "train"), test=_images(arrays, "test"), groups=labels * 10_000 + tracks)

    @property
    def _npz(self) -> Path:
        return Path(self.root) / "gtsrb_32x32.npz"

    @property
    def _official(self) -> Path:
        return Path(self.root) / "gtsrb" / "GTSRB"

    def _download(self) -> None:
        from torchvision import datasets

        try:
            for split in ("train", "test"):
                datasets.GTSRB(self.root, split, download=True)
        except (RuntimeError, OSError) as error:
            raise InputError(f"cannot download GTSRB to {self.root}: {error}") from error

    def _resized_pictures(self) -> dict[str, np.ndarray]:
        remedy = "set root to the folder that holds one of the two, or --data.download=true"
        expected = f"it or {self._npz}"
        training = require(self._official / "Training", expected, remedy)
        truth = require(self._official.parent / "GT-final_test.csv", f"the test labels, or {self._npz}", remedy)
        pictures = sorted(training.glob("*/*.ppm"))
        if not pictures:
            raise InputError(f"{training} holds no pictures; expected 00000/00000_00000.ppm and so on; {remedy}")
        with truth.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";", skipinitialspace=True))
        return {
            "x_train": _read_resized(pictures),
            "y_train": np.array([int(picture.parent.name) for picture in pictures]),
            "track_train": np.array([int(picture.stem.split("_")[0]) for picture in pictures]),
            "x_test": _read_resized([self._official / "Final_Test" / "Images" / row["Filename"] for row in rows]),
            "y_test": np.array([int(row["ClassId"]) for row in rows]),
        }


def _images(arrays: dict[str, np.ndarray], split: str) -> InMemoryImages:
    pixels = torch.from_numpy(arrays[f"x_{split}"]).permute(0, 3, 1, 2).contiguous()
    return InMemoryImages(pixels, torch.from_numpy(arrays[f"y_{split}"].astype("int64")))


def _read_resized(paths: list[Path]) -> np.ndarray:
    pictures = []
    for path in paths:
        try:
            picture = read_picture(path)
        except InputError as error:
            raise InputError(f"{error}; unpack the official archive again, or --data.download=true") from error
        pictures.append(np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR)))
    return np.stack(pictures)
