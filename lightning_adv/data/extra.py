"""Images that are trained on beside a data set: many, generated or labelled by a model, in arrays or a folder."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_adv.data.files import require
from lightning_adv.data.images import LazyImages
from lightning_adv.data.mapped import MappedArray, map_npy, map_npz
from lightning_adv.data.picture_files import PictureFiles, class_folders, list_pictures
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_pixels

__all__ = ["ExtraImages", "open_extra"]

LOOKED_AT = 256
"""Images of a file that are looked at before training, from its beginning to its end."""

PIECE = 2**20
"""Labels that are read at a time."""

Shape = tuple[int, int, int]
"""Channels, height and width."""


class ExtraImages(ABC):
    """Images with labels, read when asked for."""

    loads_files: ClassVar[bool] = False  # whether an image costs enough that worker processes pay

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W], uint8 or floats in [0, 1], and labels int64 [N]."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Tells other images, or other labels, apart."""


def open_extra(
    path: str, labels: str | None, keys: tuple[str, str], shape: Shape, class_names: Sequence[str]
) -> ExtraImages:
    """The images in an npz file, an npy file or a folder of class folders; those of an array are not loaded.

    Args:
        path: of the file or folder.
        labels: npy file of the labels of an npy file; None for ``<second key>.npy`` beside it.
        keys: of images and labels in an npz file.
        shape: C, H, W of the images that they are trained beside.
        class_names: of the K classes; a folder has the name of a class or its number.

    Raises:
        InputError: nothing there, another kind of file, images of another shape, labels that are no classes.
    """
    place = require(
        Path(path).expanduser(),
        "an npz or npy file of images, or a folder of class folders",
        "give extra as a path, from where the run is started",
    )
    if place.is_dir():
        return _ExtraPictures(place, shape, class_names)
    if place.suffix not in (".npy", ".npz"):
        raise InputError(f"{place}: extra images are read from .npz, .npy or class folders; save them as one of these")
    if place.suffix == ".npz":
        images, told = map_npz(place, keys)
        return _ExtraArrays(images, told, shape, len(class_names))
    beside = place.with_name(f"{keys[1]}.npy") if labels is None else Path(labels).expanduser()
    require(beside, f"the labels of {place}, integers in an npy file", "give labels, the path of such a file")
    return _ExtraArrays(map_npy(place), map_npy(beside), shape, len(class_names))


class _ExtraArrays(ExtraImages):
    def __init__(self, images: MappedArray, labels: MappedArray, shape: Shape, num_classes: int) -> None:
        self._images, self._labels, self._shape = images, labels, shape
        c, h, w = shape
        # Where an image has as many rows as channels, the order of the data's own images is meant.
        self._axes = {(h, w): (0, 1, 2), (h, w, c): (0, 3, 1, 2), shape: (0, 1, 2, 3)}.get(images.shape[1:])
        if self._axes is None or (len(self._axes) == 3 and c != 1):
            raise InputError(
                f"{images.path}: images of shape {list(images.shape)} do not fit data of {list(shape)} (channels, "
                "height, width); expected [N, C, H, W], [N, H, W, C] or, if grey, [N, H, W]"
            )
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise InputError(f"{images.path}: images must be uint8, or floats in [0, 1], got {images.dtype}")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise InputError(
                f"{labels.path}: expected one integer label for each of {len(images):,} images, got {labels.dtype} of "
                f"shape {list(labels.shape)}"
            )
        self._key = f"{len(images)} {self._checked_labels(num_classes):08x} {self._checked_pixels():08x}"

    def __len__(self) -> int:
        return len(self._images)

    @property
    def key(self) -> str:
        return self._key

    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        pixels = self._images.rows(numbers)
        if pixels.dtype.kind == "f":
            pixels = pixels.astype(np.float32)
        image = torch.from_numpy(pixels).permute(self._axes)
        label = torch.from_numpy(self._labels.rows(numbers).astype(np.int64))
        return image.unsqueeze(1) if image.dim() == 3 else image, label

    def _checked_labels(self, num_classes: int) -> int:
        """A checksum of the labels, which are all looked at."""
        checksum = 0
        for start in range(0, len(self), PIECE):
            labels = self._labels.rows(slice(start, start + PIECE))
            wrong = ((labels < 0) | (labels >= num_classes)).nonzero()[0]
            if len(wrong):
                label = int(labels[wrong[0]])
                remedy = "leave out what has no label, or let a model label it" if label < 0 else "count them from 0"
                raise InputError(
                    f"{self._labels.path}: label {label} of image {start + int(wrong[0])} is outside [0, {num_classes}"
                    f"), the classes of the data; {remedy}"
                )
            checksum = zlib.crc32(np.ascontiguousarray(labels), checksum)
        return checksum

    def _checked_pixels(self) -> int:
        """A checksum of the images that are looked at."""
        numbers = np.unique(np.linspace(0, len(self) - 1, LOOKED_AT).astype(np.int64))
        image, _ = self.batch(numbers)
        if image.is_floating_point():
            remedy = "store 0 to 255 as uint8 or divide by 255, and leave normalisation to the model"
            check_pixels(image, remedy, f"{self._images.path}: float pixels")
        return zlib.crc32(image.contiguous().numpy())


class _ExtraPictures(ExtraImages):
    loads_files = True

    def __init__(self, folder: Path, shape: Shape, class_names: Sequence[str]) -> None:
        named = {str(number): number for number in range(len(class_names))}
        named |= {name: number for number, name in enumerate(class_names)}
        unknown = [name for name in class_folders(folder) if name not in named]
        if unknown:
            raise InputError(
                f"{folder}: the folder {unknown[0]} has the name of no class, nor a number below {len(class_names)}; "
                f"the data's classes are {', '.join(class_names[:10])}"
            )
        samples = list_pictures(folder, {name: named[name] for name in class_folders(folder)})
        if not samples:
            raise InputError(f"{folder}: there are no pictures in its class folders")
        self._pictures = _PicturesOfSize(samples, shape)
        for first in {label: number for number, (_, label) in reversed(list(enumerate(samples)))}.values():
            self._pictures[first]  # one a class: to open all would take minutes
        labels = torch.tensor([label for _, label in samples])
        self._images = LazyImages(self._pictures, labels)
        names = "\n".join(f"{Path(path).relative_to(folder)}" for path, _ in samples)
        self._key = f"{len(samples)} {zlib.crc32(names.encode()):08x}"

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def key(self) -> str:
        return self._key

    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        loaded = self._images[torch.as_tensor(numbers)]
        return loaded.image, loaded.label


class _PicturesOfSize(PictureFiles):
    """Pictures in colour or grey as the data is, all of one size."""

    def __init__(self, samples: Sequence[tuple[str, int]], shape: Shape) -> None:
        super().__init__(samples)
        self._mode, self._size = "L" if shape[0] == 1 else "RGB", (shape[2], shape[1])

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        picture, label = super().__getitem__(position)
        if picture.size != self._size:
            raise InputError(
                f"{self.samples[position][0]} is {picture.width} x {picture.height} pixels, and the data's images are "
                f"{self._size[0]} x {self._size[1]}; resize it"
            )
        return picture.convert(self._mode), label
