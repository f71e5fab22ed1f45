"""Folders of pictures in the layout of ImageNet (Deng et al., 2009), loaded when needed."""

import os
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_warn

from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import require
from lightning_adv.data.images import LazyImages
from lightning_adv.errors import InputError
from lightning_adv.pictures import read_picture

__all__ = ["ImageFolder"]


class ImageFolder(ImageDataModule):
    """``root/train/<class>/*.jpg`` and ``root/val/<class>/*.jpg``, as ImageNet is laid out.

    ``root/val`` is what results are reported on: it is the test split, and validation images are cut from
    ``root/train`` so that no choice is made on reported images. Where ``root/test/<class>`` exists, val and test are
    what they say.
    Transforms are those of ``timm.data.create_transform`` without normalisation, which belongs to the model: a random
    resized crop, a flip and colour jitter to train, a resize and a centre crop otherwise. Pictures are loaded by
    ``num_workers`` processes.

    Pictures become 8-bit RGB upright: EXIF orientation is applied, 16-bit grey is divided by 257, transparent pixels
    lie over white, of several frames the first counts, 32-bit pixels are refused. Files of other kinds (``.gif`` among
    them) are skipped, with a warning that counts them.

    Args:
        image_size: height and width of what the model sees, in pixels; one number for a square.
        crop_scale: share of a picture's area that a training crop covers, smallest and largest.
        color_jitter: strength of the colour jitter in training.
        auto_augment: policy as timm writes it, such as "rand-m9-mstd0.5"; default none.
        crop_pct: share of the resized picture that the centre crop keeps; default timm's 0.875.
        common: see ``ImageDataModule``.
    """

    in_channels = 3
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    default_val_size = 0.05
    default_calibration_size = 0.02

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        color_jitter: float = 0.4,
        auto_augment: str | None = None,
        crop_pct: float | None = None,
        **common: object,
    ) -> None:
        super().__init__(**common)
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.crop_scale = tuple(crop_scale)
        self.color_jitter = color_jitter
        self.auto_augment = auto_augment
        self.crop_pct = crop_pct
        self.class_names = _classes(self._require("train"))
        self.num_classes = len(self.class_names)

    def load(self) -> Sources:
        """List the pictures; they are read when a batch needs them."""
        reported = self._require("val")
        official_test = Path(self.root) / "test"
        if not official_test.is_dir():
            return Sources(train=self._pictures("train"), test=self._pictures(reported.name))
        return Sources(train=self._pictures("train"), val=self._pictures("val"), test=self._pictures("test"))

    def _require(self, split: str) -> Path:
        return require(
            Path(self.root) / split,
            f"folders of pictures {split}/<class>/*.jpg",
            "set root to the folder that holds train/ and val/",
        )

    def _pictures(self, split: str) -> LazyImages:
        from torchvision import datasets

        folder = Path(self.root) / split
        if _classes(folder) != self.class_names:
            differing = sorted(set(_classes(folder)) ^ set(self.class_names))
            raise InputError(
                f"{folder} must have the class folders of {self.root}/train; differing: {', '.join(differing[:5])}"
            )
        try:
            pictures = datasets.ImageFolder(folder, loader=read_picture)
        except FileNotFoundError as error:
            raise InputError(f"{folder}: {error}; every class folder needs pictures") from error
        _warn_of_others(folder, len(pictures.samples))
        labels = torch.tensor(pictures.targets)
        return LazyImages(pictures, labels, self._transform(True), self._transform(False), self.seed)

    def _transform(self, is_training: bool) -> object:
        from timm.data import create_transform

        return create_transform(
            (self.in_channels, *self.image_size),
            is_training=is_training,
            scale=self.crop_scale,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment,
            crop_pct=self.crop_pct,
            normalize=False,
        )


def _warn_of_others(folder: Path, read: int) -> None:
    """Say what is skipped: files of other kinds than those that are read."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    # Names alone: to ask for the kind of every file of ImageNet would take minutes.
    files = (Path(where) / name for where, _, names in os.walk(folder, followlinks=True) for name in names)
    others = sorted(path for path in files if path.suffix.lower() not in IMG_EXTENSIONS and path.name[0] != ".")
    if others:
        kinds = ", ".join(sorted({path.suffix.lower() or "no suffix" for path in others}))
        rank_zero_warn(
            f"{folder}: {len(others)} files ({kinds}) beside {read} pictures are skipped, {others[0]} the first; "
            f"pictures end in {', '.join(IMG_EXTENSIONS)}"
        )


def _classes(folder: Path) -> list[str]:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise InputError(f"{folder} holds no class folders; expected {folder}/<class>/*.jpg")
    return classes
