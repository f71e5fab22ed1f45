"""The base of all image sets: splits, loaders, conversion and augmentation on the device."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.data.augmentation import Augmentation
from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.checks import check_not_one_class, check_source
from lightning_adv.data.facts import class_name
from lightning_adv.data.images import IndexedImages
from lightning_adv.data.loader import ImageLoader
from lightning_adv.data.mixing import Mixing
from lightning_adv.data.samplers import EvaluationBatches, TrainBatches
from lightning_adv.data.seeds import derive_seed
from lightning_adv.data.splits import in_random_order, number_of_images, stratified_cuts
from lightning_adv.errors import InputError
from lightning_adv.pixels import float_images

__all__ = ["ImageDataModule", "Sources"]

OF_ALL_RANKS = -1
"""In the place of a rank's number, where all ranks draw the same."""


@dataclass(frozen=True)
class Sources:
    """What a data set consists of before it is split.

    Args:
        train: images to train on; validation and calibration images are cut from them where the set has none. None
            where there is nothing but images to report on: what is cut is then cut from these.
        test: images to report on.
        val: official validation images.
        calibration: clean held-out images for a defender.
        groups: int64 [len(train)], images of one physical object that must not be torn apart by a cut.
    """

    train: IndexedImages | None
    test: IndexedImages
    val: IndexedImages | None = None
    calibration: IndexedImages | None = None
    groups: Tensor | None = None

    @property
    def splits(self) -> dict[str, IndexedImages]:
        """Those there are, by name."""
        every = {"train": self.train, "val": self.val, "test": self.test, "calibration": self.calibration}
        return {name: data for name, data in every.items() if data is not None}


class ImageDataModule(LightningDataModule, ABC):
    """Images with labels in four splits: train, val, test and calibration (clean held-out images a defender owns).

    A concrete set defines ``load`` and the attributes ``num_classes``, ``in_channels``, ``image_size`` (height, width),
    ``mean``, ``std`` (of every channel, for pixels in [0, 1]) and ``class_names``, all known after construction. After
    ``setup`` the splits are in ``datasets``. Loaders yield ``ImageBatch``; images become float32 in [0, 1] and training
    images are augmented in ``on_after_batch_transfer``, on the device. Normalisation belongs to the model.

    Args:
        root: folder that holds the data.
        batch_size: images in a training batch of one process.
        eval_batch_size: images in a batch of the other splits; default ``batch_size``.
        num_workers: loading processes; sets in memory need none.
        val_size: validation images cut from the training images, as a number or a share; default depends on the set.
        calibration_size: the same for calibration images.
        augment: augmentation of training images; of several, one after the other.
        mix: joins training images in pairs, behind the augmentation; labels become probabilities [N, K]. Of several,
            one is drawn for each batch.
        seed: of the cuts, the order of training images and the augmentation.
        download: whether missing data may be downloaded, where the set has an official address.
        max_train_samples: use only so many training images (a stratified choice), for quick runs.
        max_val_samples: the same for validation images.
        max_test_samples: the same for test images.
        resident: keep the images on the trainer's device, where a batch is one index and nothing goes over the bus; for
            sets that fit there (CIFAR-10: 184 MB). Every process keeps all of them.

    Raises:
        InputError: for an argument that makes no sense, or in ``setup`` for missing or broken data.
    """

    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: list[str]
    default_val_size: ClassVar[int | float] = 0.1
    default_calibration_size: ClassVar[int | float] = 0.05

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        val_size: int | float | None = None,
        calibration_size: int | float | None = None,
        augment: Augmentation | list[Augmentation] | None = None,
        mix: Mixing | list[Mixing] | None = None,
        seed: int = 0,
        download: bool = False,
        max_train_samples: int | None = None,
        max_val_samples: int | None = None,
        max_test_samples: int | None = None,
        resident: bool = False,
    ) -> None:
        super().__init__()
        # An augmentation is an object, and a checkpoint that holds one loads only unsafely. Nothing goes to the logger:
        # Lightning refuses a name that the model uses too, and the command line logs the whole configuration anyway.
        self.save_hyperparameters(ignore=["augment", "mix"], logger=False)
        self.root = root
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.val_size = self.default_val_size if val_size is None else val_size
        self.calibration_size = self.default_calibration_size if calibration_size is None else calibration_size
        self.augment = augment
        self.mix = mix
        self.seed = seed
        self.download = download
        self.max_samples = {"train": max_train_samples, "val": max_val_samples, "test": max_test_samples}
        self.resident = resident
        self.datasets: dict[str, IndexedImages] = {}
        self._training_loader: ImageLoader | None = None
        self._check_arguments()

    @property
    def known_as(self) -> str:
        """What the set is called in reports, where figures compare only if this is the same."""
        return class_name(type(self))

    @abstractmethod
    def load(self) -> Sources:
        """Read the data. Called once, in ``setup``.

        Raises:
            InputError: if files are missing or broken, with the path, what was expected and the remedy.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data, once whatever the stage."""
        if self.datasets:
            return
        sources = self.load()
        for split, data in sources.splits.items():
            check_source(data, self._where(split), self.num_classes, self.in_channels, self.image_size)
        datasets = self._split(sources)
        for split, data in datasets.items():
            limit = self.max_samples.get(split)
            if limit is not None and limit < len(data):
                datasets[split] = data.select(stratified_cuts(data.labels, [limit], self.seed)[0])
        if "train" in datasets:
            check_not_one_class(datasets["train"], self._where("train"))
        self.datasets = datasets

    def train_dataloader(self) -> ImageLoader:
        """Shuffled batches of this process's training images; resumable in the middle of an epoch."""
        return self.training_loader(self.images("train"))

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """This process's share of the validation images; an empty list with ``val_size=0``."""
        self._refuse_overfitting()
        if "val" not in self._loaded():
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # it was asked for
            return []
        return self.evaluation_loader(self.datasets["val"])

    def test_dataloader(self) -> DataLoader:
        """This process's share of the test images."""
        return self.evaluation_loader(self.images("test"))

    def calibration_dataloader(self) -> DataLoader:
        """This process's share of the calibration images."""
        return self.evaluation_loader(self.images("calibration"))

    def images(self, split: str) -> IndexedImages:
        """The images of a split: "train", "val", "test" or "calibration".

        Raises:
            InputError: there are none.
        """
        if split not in self._loaded():
            remedy = "nothing can be trained" if split == "train" else f"set {split}_size above 0"
            raise InputError(f"{self._where(split)}: there are no images; {remedy}")
        return self.datasets[split]

    def training_loader(self, data: IndexedImages, batches: Callable[..., TrainBatches] = TrainBatches) -> ImageLoader:
        """A resumable loader of shuffled training batches of any images, for this process.

        Args:
            data: the images.
            batches: makes the sampler, as the class ``TrainBatches`` does.
        """
        self._refuse_overfitting()
        data, pinned = self._where_wanted(data)
        sampler = batches(len(data), self.batch_size, self.seed, *self.processes())
        self._training_loader = ImageLoader(data, sampler, self.num_workers, pinned)
        return self._training_loader

    def evaluation_loader(self, data: IndexedImages) -> DataLoader:
        """A loader of this process's share of any images: every image goes to exactly one process."""
        data, pinned = self._where_wanted(data.for_evaluation())
        return DataLoader(
            data,
            sampler=EvaluationBatches(len(data), self.eval_batch_size, *self.processes()),
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=pinned,
            generator=torch.Generator(),  # otherwise every iteration draws a worker seed from the global generator
        )

    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Images as float32 in [0, 1]; augmented while the trainer trains. Other batches pass unchanged."""
        if not isinstance(batch, ImageBatch):
            return batch
        image, label = float_images(batch.image), batch.label
        augmentations, mixings = _listed(self.augment), _listed(self.mix)
        if self.trainer is None or not self.trainer.training or not (augmentations or mixings):
            return batch._replace(image=image)
        generator = self._augmentation_generator()
        for augment in augmentations:
            image = augment(image, generator)
        if mixings:
            generator = self._generator(OF_ALL_RANKS)
            mix = mixings[int(torch.randint(len(mixings), (1,), generator=generator))]
            image, label = mix(image, label, self.num_classes, generator, *self.processes())
        return batch._replace(image=image, label=label)

    def _augmentation_generator(self) -> torch.Generator:
        return self._generator(self.trainer.global_rank)

    def _generator(self, rank: int) -> torch.Generator:
        # Counters that a checkpoint restores, so that a resumed run augments as the uninterrupted one would have.
        if self._training_loader is not None:
            epoch, batch = self._training_loader.place
        else:  # a subclass makes its own loader
            epoch, batch = self.trainer.current_epoch, self.trainer.fit_loop.batch_idx + 1
        return torch.Generator().manual_seed(derive_seed(self.seed, epoch, batch, rank))

    def _split(self, sources: Sources) -> dict[str, IndexedImages]:
        pool = sources.test if sources.train is None else sources.train
        sizes = {"val": self.val_size, "calibration": self.calibration_size}
        cut_names = [name for name in sizes if name not in sources.splits]
        numbers = [number_of_images(sizes[name], len(pool), f"{name}_size") for name in cut_names]
        if sum(numbers) >= len(pool):
            split, use = ("test", "report") if sources.train is None else ("train", "train")
            raise InputError(
                f"{self._where(split)}: val_size and calibration_size take {sum(numbers)} of {len(pool)} images and"
                f" leave none to {use} on; lower them"
            )
        *cuts, rest = stratified_cuts(pool.labels, numbers, self.seed, sources.groups)
        rest = pool.select(rest)
        train = {} if sources.train is None else {"train": rest}
        datasets = train | {"test": _fairly_ordered(sources.test if train else rest, self.seed)}
        for name, cut in zip(cut_names, cuts, strict=True):
            datasets[name] = pool.for_evaluation().select(cut)
        for name in sizes.keys() - set(cut_names):
            datasets[name] = _fairly_ordered(sources.splits[name], self.seed)
        self._check_splits(datasets, dict(zip(cut_names, numbers, strict=True)))
        return {name: data for name, data in datasets.items() if len(data)}

    def _check_splits(self, datasets: dict[str, IndexedImages], asked: dict[str, int]) -> None:
        for name, data in datasets.items():
            if len(data) == 0 and asked.get(name, 1):
                raise InputError(f"{self._where(name)}: the split is empty; change val_size or calibration_size")

    def _check_arguments(self) -> None:
        at_least_one = {"batch_size": self.batch_size, "eval_batch_size": self.eval_batch_size}
        at_least_one |= {f"max_{split}_samples": limit for split, limit in self.max_samples.items()}
        for name, value in at_least_one.items():
            if value is not None and value < 1:
                raise InputError(f"{type(self).__name__}: {name} must be at least 1, got {value}")
        if self.num_workers < 0:
            raise InputError(f"{type(self).__name__}: num_workers must be at least 0, got {self.num_workers}")
        if self.resident and self.num_workers:
            raise InputError(
                f"{type(self).__name__}: resident=true indexes images on the device, and num_workers="
                f"{self.num_workers} would load them in other processes; leave one of the two out"
            )
        number_of_images(self.val_size, 0, "val_size")
        number_of_images(self.calibration_size, 0, "calibration_size")

    def _where(self, split: str) -> str:
        return f"{type(self).__name__}, {split} split"

    def _loaded(self) -> dict[str, IndexedImages]:
        if not self.datasets:
            self.setup()
        return self.datasets

    def processes(self) -> tuple[int, int]:
        """How many processes share the data, and the number of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _where_wanted(self, data: IndexedImages) -> tuple[IndexedImages, bool]:
        """The images, on the device if asked for, and whether batches are to lie in page-locked memory."""
        _silence_advice_on_workers(data)
        if not self.resident:
            return data, torch.cuda.is_available()
        return data.on(torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device), False

    def _refuse_overfitting(self) -> None:
        if self.trainer is not None and self.trainer.overfit_batches > 0:
            raise InputError(
                "trainer.overfit_batches would replace the samplers that share images between processes; use"
                " max_train_samples and max_val_samples instead"
            )


def _listed(given: object | list | None) -> list:
    return [] if given is None else given if isinstance(given, list) else [given]


def _fairly_ordered(data: IndexedImages, seed: int) -> IndexedImages:
    return data.for_evaluation().select(in_random_order(data.labels, seed))


def _silence_advice_on_workers(data: IndexedImages) -> None:
    # Lightning recommends more workers whatever the data; one tensor index per batch leaves them nothing to do.
    if not data.loads_files:
        warnings.filterwarnings("ignore", message="The '.*' does not have many workers")
