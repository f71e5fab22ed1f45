"""Folders of pictures in the layout of ImageNet (Deng et al., 2009), loaded when needed."""

from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_warn

from lightning_adv.data.class_list import ClassList, read_class_list
from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import require
from lightning_adv.data.images import LazyImages
from lightning_adv.data.picture_files import (
    PictureFiles,
    chosen,
    class_folders,
    holds_pictures,
    list_pictures,
    list_sum,
    read_image_list,
)
from lightning_adv.data.preparation import prepared_for
from lightning_adv.errors import InputError

__all__ = ["ImageFolder"]


class ImageFolder(ImageDataModule):
    """``root/train/<class>/*.jpg`` and ``root/val/<class>/*.jpg``, as ImageNet is laid out.

    ``root/val`` is what results are reported on: it is the test split, and validation images are cut from
    ``root/train`` so that no choice is made on reported images. Where ``root/test/<class>`` exists, val and test are
    what they say. An evaluation needs no ``root/train``, and takes ``root/<class>`` where there is no other folder: all
    pictures are then reported on, but for ``val_size`` and ``calibration_size`` of them, 0 by default.
    Transforms are those of ``timm.data.create_transform`` without normalisation, which belongs to the model: a random
    resized crop, a flip and colour jitter to train, a resize and a centre crop otherwise. Pictures are loaded by
    ``num_workers`` processes.

    Pictures become 8-bit RGB upright: EXIF orientation is applied, 16-bit grey is divided by 257, transparent pixels
    lie over white, of several frames the first counts, 32-bit pixels are refused. Files of other kinds (``.gif`` among
    them) are skipped, with a warning that counts them.

    Args:
        image_size: height and width of what the model sees, in pixels; one number for a square; default 224.
        crop_scale: share of a picture's area that a training crop covers, smallest and largest.
        color_jitter: strength of the colour jitter in training.
        auto_augment: policy as timm writes it, such as "rand-m9-mstd0.5"; default none.
        crop_pct: share of the resized picture that the crop keeps; default 0.875.
        crop_mode: "center" resizes the shorter side, "squash" both, "border" the longer one; default "center".
        interpolation: of the resizing; default "bilinear".
        mean: of each channel in [0, 1], for the model's normalisation; default ImageNet's.
        std: of each channel; default ImageNet's.
        match: take size, interpolation, crop, mean and std, where they are not given, from what a network was trained
            with: "model" for the one that the command line names, else a network of timm's or its folder.
        class_list: which class folder has which label, for a model of more classes than there are folders: "imagenet",
            another list of timm's, a file, or the folders by label; see ``read_class_list``. Classes without pictures
            are no obstacle to an evaluation. Default: the folders in the order of their names.
        num_classes: K, where ``class_list`` does not hold all classes.
        only: the pictures to report on, in this order: a file that lists ``<class>/<file>`` or ``<file>``, one a line,
            or the entries themselves. One that it names twice counts once.
        common: see ``ImageDataModule``.
    """

    in_channels = 3
    default_val_size = 0.05
    default_calibration_size = 0.02

    def __init__(
        self,
        image_size: int | tuple[int, int] | None = None,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        color_jitter: float = 0.4,
        auto_augment: str | None = None,
        crop_pct: float | None = None,
        crop_mode: str | None = None,
        interpolation: str | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        match: str | None = None,
        class_list: str | list[str] | None = None,
        num_classes: int | None = None,
        only: str | list[str] | None = None,
        **common: object,
    ) -> None:
        super().__init__(**common)
        given = {"interpolation": interpolation, "crop_pct": crop_pct, "crop_mode": crop_mode, "mean": mean, "std": std}
        given["image_size"] = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.preparation = prepared_for(match, given)
        self.image_size, self.mean, self.std = (
            self.preparation.image_size,
            self.preparation.mean,
            self.preparation.std,
        )
        self.crop_scale = tuple(crop_scale)
        self.color_jitter = color_jitter
        self.auto_augment = auto_augment
        self.folders = _folders(Path(self.root))
        if "train" not in self.folders:  # what is reported on is not given away unasked
            self.val_size, self.calibration_size = (common.get(f"{name}_size") or 0 for name in ("val", "calibration"))
        self.only = None if only is None else read_image_list(only)
        self._is_listed = class_list is not None
        self._classes = self._classes_of(class_list, num_classes)
        self.class_names = self._classes.names
        self.num_classes = len(self.class_names)
        self._not_trained: list[str] = []  # classes without pictures to train on

    @property
    def known_as(self) -> str:
        """Its folder, and the sum of the list that chooses from it."""
        chosen = "" if self.only is None else f", list {list_sum(self.only)}"
        return f"{super().known_as} {Path(self.root).resolve().name}{chosen}"

    def load(self) -> Sources:
        """List the pictures; they are read when a batch needs them."""
        if "test" not in self.folders:
            self._require("val")
        sources = {split: self._pictures(split) for split in self.folders}
        if "train" in sources:
            present = set(sources["train"].labels.tolist())
            self._not_trained = [name for name, label in self._classes.labels.items() if label not in present]
        else:
            rank_zero_warn(
                f"{self.root} has no train/: the {len(sources['test']):,} pictures of {self.folders['test']} are "
                f"reported on; val_size={self.val_size} and calibration_size={self.calibration_size} are cut from them"
            )
        return Sources(**{"train": None, **sources})

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data; training asks for pictures of every class."""
        super().setup(stage)
        if stage == "fit" and "train" not in self.folders:
            raise InputError(
                f"{self.root} has no train/, so there is nothing to train on; expected train/<class>/*.jpg"
            )
        if stage == "fit" and (self._not_trained or self.num_classes > len(self._classes.labels)):
            count = len(self._not_trained) + self.num_classes - len(self._classes.labels)
            first = f", {self._not_trained[0]} the first," if self._not_trained else ""
            raise InputError(
                f"{self.folders['train']}: {count} of {self.num_classes} classes{first} have no pictures to train on; "
                "leave class_list and num_classes out to train on the classes that there are"
            )

    def _classes_of(self, class_list: str | list[str] | None, num_classes: int | None) -> ClassList:
        first = next(iter(self.folders), "train")
        found = class_folders(self._require(first))
        if class_list is not None:
            return read_class_list(class_list, found, num_classes)
        if num_classes not in (None, len(found)):
            raise InputError(
                f"{self.folders[first]} has {len(found)} class folders for num_classes={num_classes}; give class_list, "
                "which says which label each folder has"
            )
        return read_class_list(found, found)

    def _require(self, split: str) -> Path:
        return self.folders.get(split) or require(
            Path(self.root) / split,
            f"folders of pictures {split}/<class>/*.jpg",
            "set root to the folder that holds train/ and val/",
        )

    def _pictures(self, split: str) -> LazyImages:
        folder, labels = self.folders[split], self._classes.labels
        found = class_folders(folder)
        if not self._is_listed and set(found) != set(labels):
            differing = sorted(set(found) ^ set(labels))
            raise InputError(
                f"{folder} must have the class folders of {self.root}/train; differing: {', '.join(differing[:5])}"
            )
        known = labels | dict.fromkeys(set(found) - set(labels), -1)
        samples = list_pictures(folder, {name: known[name] for name in found})
        if self.only is not None and split == "test":
            samples = chosen(samples, folder, self.only)
        elif not self._is_listed and (empty := sorted(set(labels.values()) - {label for _, label in samples})):
            raise InputError(
                f"{folder}: {len(empty)} class folders hold no pictures, {self.class_names[empty[0]]} the first; every "
                "class folder needs pictures, where no class_list is given"
            )
        unknown = sorted({Path(path).relative_to(folder).parts[0] for path, label in samples if label == -1})
        if unknown:
            raise InputError(
                f"{folder}: {len(unknown)} class folders are not in the class list, {unknown[0]} the first; correct "
                "class_list, remove them, or choose pictures by only"
            )
        label = torch.tensor([label for _, label in samples], dtype=torch.long)
        return LazyImages(PictureFiles(samples), label, self._transform(True), self._transform(False), self.seed)

    def _transform(self, is_training: bool) -> object:
        from timm.data import create_transform

        return create_transform(
            (self.in_channels, *self.image_size),
            is_training=is_training,
            scale=self.crop_scale,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment,
            interpolation=self.preparation.interpolation,
            crop_pct=self.preparation.crop_pct,
            crop_mode=self.preparation.crop_mode,
            normalize=False,
        )


def _folders(root: Path) -> dict[str, Path]:
    """The folder of each split: of what is reported on, it is val where there is no test."""
    found = {split: root / split for split in ("train", "val", "test") if (root / split).is_dir()}
    if not found and holds_pictures(root):
        return {"test": root}
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
    return found
