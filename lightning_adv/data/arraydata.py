"""A user's own images in npz or safetensors files."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_adv.data.checks import count_classes
from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import npz_shapes, read_npz, require, unreadable
from lightning_adv.data.images import InMemoryImages
from lightning_adv.data.splits import number_of_images, stratified_cuts
from lightning_adv.errors import InputError

__all__ = ["ArrayData"]


class ArrayData(ImageDataModule):
    """Images and labels from ``.npz`` or ``.safetensors`` files, one file a split.

    Images are uint8, or floats in [0, 1], of shape [N, C, H, W], [N, H, W, C] or [N, H, W] (grey); labels are integers
    from 0. Splits without a file are cut from the training images; the test images are the same whatever ``seed``.
    Pickled objects inside a file are refused.

    Args:
        train: file of the training images, relative to ``root``.
        test: file of the test images.
        val: file of the validation images.
        calibration: file of the calibration images.
        images_key: name of the images in the files.
        labels_key: name of the labels in the files.
        layout: "NCHW", "NHWC" or "auto": whichever of the first and last of the three dimensions looks like channels (1
            or 3), refused where both do or neither.
        num_classes: default the largest training label plus 1, refused where a class below it has no image.
        class_names: default the numbers of the classes.
        mean: of every channel for pixels in [0, 1]; default 0.5.
        std: of every channel; default 0.25.
        test_size: test images cut from ``train`` where ``test`` is not given, as a number or a share.
        common: see ``ImageDataModule``.
    """

    def __init__(
        self,
        train: str,
        test: str | None = None,
        val: str | None = None,
        calibration: str | None = None,
        images_key: str = "images",
        labels_key: str = "labels",
        layout: Literal["auto", "NCHW", "NHWC"] = "auto",
        num_classes: int | None = None,
        class_names: list[str] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        test_size: int | float = 0.2,
        **common: object,
    ) -> None:
        super().__init__(**common)
        self.images_key = images_key
        self.labels_key = labels_key
        self.layout = layout
        self.test_size = test_size
        names = {"train": train, "test": test, "val": val, "calibration": calibration}
        self.paths = {split: self._checked(name) for split, name in names.items() if name is not None}
        self.in_channels, *size = self._image_shape()
        self.image_size = (size[0], size[1])
        if num_classes is not None and num_classes < 2:
            raise InputError(f"ArrayData: num_classes must be at least 2, got {num_classes}")
        self.num_classes = num_classes or self._count_classes()
        self.class_names = class_names or [str(label) for label in range(self.num_classes)]
        self.mean = self._per_channel(mean, 0.5, "mean")
        self.std = self._per_channel(std, 0.25, "std")
        if len(self.class_names) != self.num_classes:
            raise InputError(f"ArrayData: {len(self.class_names)} class_names for {self.num_classes} classes")

    @property
    def known_as(self) -> str:
        """The file that the test images are from."""
        return f"{super().known_as} {self.paths.get('test', self.paths['train']).name}"

    def load(self) -> Sources:
        """Read the files."""
        data = {split: self._images(path) for split, path in self.paths.items()}
        if "test" not in data:
            labels = data["train"].labels
            test, train = stratified_cuts(labels, [number_of_images(self.test_size, len(labels), "test_size")], seed=0)
            data["test"], data["train"] = data["train"].select(test), data["train"].select(train)
        return Sources(**data)

    def _count_classes(self) -> int:
        (labels,) = self._read(self.paths["train"], [self.labels_key])
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise InputError(f"{self.paths['train']}: labels must be integers from 0, got {labels.dtype}")
        return count_classes(labels.long(), self.paths["train"], ", or say num_classes where that is meant")

    def _checked(self, name: str) -> Path:
        path = require(
            Path(self.root) / name,
            f"an .npz or .safetensors file with {self.images_key!r} and {self.labels_key!r}",
            f"give a path relative to root ({self.root})",
        )
        if path.suffix not in (".npz", ".safetensors"):
            raise InputError(f"{path}: only .npz and .safetensors files are read; save the arrays as one of them")
        return path

    def _image_shape(self) -> tuple[int, ...]:
        path = self.paths["train"]
        shapes = npz_shapes(path) if path.suffix == ".npz" else _safetensors_shapes(path)
        for key in (self.images_key, self.labels_key):
            if key not in shapes:
                raise InputError(
                    f"{path} has no array {key!r}; it holds {', '.join(shapes)}; set images_key and labels_key"
                )
        shape, labels = shapes[self.images_key], shapes[self.labels_key]
        if len(shape) not in (3, 4) or shape[:1] != labels:
            raise InputError(
                f"{path}: images of shape {list(shape)} and labels of shape {list(labels)} do not match; expected"
                " [N, C, H, W], [N, H, W, C] or [N, H, W], and [N]"
            )
        if shape[0] == 0:
            raise InputError(f"{path}: there are no images in it")
        if len(shape) == 3:
            return (1, *shape[1:])
        return tuple(shape[1 + axis] for axis in self._order(shape, path))

    def _order(self, shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
        first, last = (shape[axis] in (1, 3) for axis in (1, 3))
        if self.layout == "auto" and first == last:
            raise InputError(
                f"{path}: images of shape {list(shape)} can be [N, C, H, W] or [N, H, W, C]; say layout: NCHW or NHWC"
            )
        channels_last = last if self.layout == "auto" else self.layout == "NHWC"
        return (2, 0, 1) if channels_last else (0, 1, 2)

    def _images(self, path: Path) -> InMemoryImages:
        images, labels = self._read(path, [self.images_key, self.labels_key])
        if images.ndim == 4:
            order = self._order(tuple(images.shape), path)
            images = images.permute(0, *(1 + axis for axis in order)).contiguous()
        try:
            images = images.unsqueeze(1) if images.ndim == 3 else images
            return InMemoryImages(images, labels)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def _read(self, path: Path, keys: list[str]) -> list[Tensor]:
        if path.suffix == ".npz":
            arrays = read_npz(path, keys)
            for key, array in zip(keys, arrays, strict=True):
                if array.dtype.kind not in "biuf":
                    raise InputError(f"{path}: {key!r} must hold numbers, got {array.dtype}")
            return [torch.from_numpy(_signed(array)) for array in arrays]
        return _read_safetensors(path, keys)

    def _per_channel(self, values: list[float] | None, default: float, name: str) -> tuple[float, ...]:
        if values is None:
            return (default,) * self.in_channels
        if len(values) != self.in_channels:
            raise InputError(f"ArrayData: {name} needs a number for each of {self.in_channels} channels, got {values}")
        return tuple(values)


def _signed(array: np.ndarray) -> np.ndarray:
    # torch computes little with uint16 to uint64, which label arrays often are.
    return array.astype("int64") if array.dtype.kind == "u" and array.dtype.itemsize > 1 else array


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error, "expected a file as safetensors.torch.save_file writes it") from error


def _read_safetensors(path: Path, keys: list[str]) -> list[Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return [file.get_tensor(key) for key in keys]
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error, f"expected a safetensors file with {', '.join(keys)}") from error
