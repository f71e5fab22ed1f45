"""Checks of loaded data, so that a broken set stops a run before its first step with a message that says where."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_adv.data.images import IndexedImages, InMemoryImages
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_pixels

__all__ = ["check_not_one_class", "check_source", "count_classes"]


def check_source(
    data: IndexedImages, where: str, num_classes: int, in_channels: int, image_size: tuple[int, int]
) -> None:
    """Refuse an empty set, labels outside [0, num_classes), and pixels or shapes that cannot be right.

    Args:
        data: what was loaded.
        where: what to call it in a message, such as "the training images of data/my.npz".
        num_classes: number of classes.
        in_channels: expected channels.
        image_size: expected (height, width) in pixels.

    Raises:
        InputError: naming the cause and the first image that shows it.
    """
    if len(data) == 0:
        raise InputError(f"{where}: there are no images; check the path and the sizes of the splits")
    wrong = ((data.labels < 0) | (data.labels >= num_classes)).nonzero().flatten()
    if len(wrong):
        raise InputError(
            f"{where}: label {int(data.labels[wrong[0]])} of image {int(wrong[0])} is outside [0, {num_classes});"
            f" labels must count from 0 and there are {num_classes} classes"
        )
    if isinstance(data, InMemoryImages):
        _check_shape(data, where, in_channels, image_size)
        _check_pixels(data, where)


def count_classes(labels: Tensor, path: Path, remedy: str = "") -> int:
    """Number of classes of labels [N] that count from 0; negative ones are left to :func:`check_source`.

    Args:
        labels: int64 [N].
        path: of the file that they are from.
        remedy: what else can be done about a gap.

    Raises:
        InputError: a class below the largest without an image: a stray label, or a number that must be declared;
            or one class alone that is not 0.
    """
    present = labels[labels >= 0].unique()
    if not len(present):
        return 0
    classes = int(present[-1]) + 1
    if classes > 1 and bool((labels == classes - 1).all()):  # to fill the gap below would not help
        raise _one_class(str(path), len(labels), classes - 1)
    if len(present) < classes:
        missing = int((present != torch.arange(len(present))).nonzero()[0])
        raise InputError(
            f"{path}: labels go up to {classes - 1:,}, and {classes - len(present):,} of these {classes:,} classes "
            f"have no image, {missing} the first; count classes from 0 without gaps{remedy}"
        )
    return classes


def check_not_one_class(data: IndexedImages, where: str) -> None:
    """Refuse a training set of a single class: its classifier would be a constant."""
    classes = data.labels.unique()
    if len(classes) == 1:
        raise _one_class(where, len(data), int(classes[0]), " or raise max_train_samples")


def _one_class(where: str, images: int, label: int, remedy: str = "") -> InputError:
    return InputError(
        f"{where}: all {images} images have the label {label}; a classifier needs two classes or more,"
        f" check the labels{remedy}"
    )


def _check_shape(data: InMemoryImages, where: str, in_channels: int, image_size: tuple[int, int]) -> None:
    found, expected = tuple(data.source_images.shape[1:]), (in_channels, *image_size)
    if found != expected:
        raise InputError(f"{where}: images of shape {found} (channels, height, width), expected {expected}")


def _check_pixels(data: InMemoryImages, where: str) -> None:
    images = data.source_images
    if images.dtype == torch.uint8:
        return
    broken = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten()
    if len(broken):
        raise InputError(
            f"{where}: {len(broken)} images hold NaN or infinite pixels, the first is image {int(broken[0])};"
            " repair or remove them"
        )
    remedy = "store 0 to 255 as uint8 or divide by 255, and leave normalisation to the model"
    check_pixels(images, remedy, f"{where}: float pixels")
