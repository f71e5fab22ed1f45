"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009)."""

from pathlib import Path
from typing import ClassVar

import torch
from torchvision import datasets

from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import require, unreadable
from lightning_adv.data.images import InMemoryImages
from lightning_adv.errors import InputError

__all__ = ["CIFAR10", "CIFAR100"]


class CIFAR10(ImageDataModule):
    """Colour photographs of 10 classes, 32 x 32: 50,000 training and 10,000 test images.

    1,000 training images are cut off to validate and 1,000 to calibrate, which follows Rice et al. (2020), "Overfitting
    in adversarially robust deep learning": adversarial training needs a held-out choice of the epoch. Reads
    ``root/cifar-10-batches-py``; its files are pickles and are opened only if their md5 is the official one.
    Arguments: see ``ImageDataModule``.
    """

    num_classes = 10
    in_channels = 3
    image_size = (32, 32)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    class_names: ClassVar[list[str]] = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
    default_val_size = 1000
    official: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10
    default_calibration_size = 1000

    def prepare_data(self) -> None:
        """Download the files, if ``download`` is on."""
        if not self.download:
            return
        try:
            self.official(self.root, download=True)
        except (RuntimeError, OSError) as error:
            raise InputError(f"cannot download {type(self).__name__} to {self.root}: {error}") from error

    def load(self) -> Sources:
        """Check the md5 of all files, then read them."""
        self._check_files()
        return Sources(train=self._images(train=True), test=self._images(train=False))

    def _images(self, train: bool) -> InMemoryImages:
        dataset = self.official(self.root, train=train, download=False)
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
        return InMemoryImages(images, torch.tensor(dataset.targets))

    def _check_files(self) -> None:
        from torchvision.datasets.utils import calculate_md5

        official = self.official
        folder = Path(self.root) / official.base_folder
        remedy = "set root to the folder above it, or --data.download=true"
        require(folder, f"the unpacked archive {official.filename}", remedy)
        sums = dict(official.train_list + official.test_list) | {official.meta["filename"]: official.meta["md5"]}
        for name, md5 in sums.items():
            path = require(folder / name, f"all files of the archive {official.filename}", remedy)
            if not path.is_file() or calculate_md5(path) != md5:
                raise unreadable(
                    path, f"its md5 is not {md5}", f"remove {folder} and unpack it again, or --data.download=true"
                )


class CIFAR100(CIFAR10):
    """Colour photographs of 100 classes, 32 x 32: 50,000 training and 10,000 test images.

    Reads ``root/cifar-100-python`` (the fine labels), as ``CIFAR10`` does. Arguments: see ``ImageDataModule``.
    """

    num_classes = 100
    official = datasets.CIFAR100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    class_names: ClassVar[list[str]] = """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
        castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
        elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
        man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
        pine_tree
        plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
        snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
        trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905
