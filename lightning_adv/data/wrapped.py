"""What datamodules around another datamodule share."""

import warnings
from collections.abc import Callable
from typing import ClassVar

import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, Dataset

from lightning_adv.errors import InputError

__all__ = ["WrapsDataModule", "loader_like"]


class WrapsDataModule:
    """Another datamodule, which does everything that a class does not change; a mixin before ``LightningDataModule``.

    Args:
        data: the datamodule inside.

    Raises:
        InputError: one that belongs outside.
    """

    is_outermost: ClassVar[bool] = False
    """Whether no other datamodule may be around this one."""

    def __init__(self, data: LightningDataModule) -> None:
        if isinstance(data, WrapsDataModule) and data.is_outermost:
            inner, outer = type(data).__name__, type(self).__name__
            raise InputError(
                f"{outer} does not see what {inner} mixes in: put {inner} around {outer}, not into it"
                if inner != outer
                else f"{inner} goes around other data once: put all extra images into one file or folder"
            )
        self.data = data  # first: what this class lacks is looked up there
        super().__init__()

    def __getattr__(self, name: str) -> object:
        """What the data inside has and this class has not: ``num_classes``, ``class_names``, ``datasets``, ..."""
        if name == "data" or name.startswith("_"):  # not set yet while copied or unpickled
            raise AttributeError(name)
        return getattr(self.data, name)  # a wrapper has what is inside it, whatever that is

    @property
    def trainer(self) -> Trainer | None:
        """The trainer; Lightning sets it, and the data inside needs it too."""
        return self.data.trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        self.data.trainer = trainer

    def prepare_data(self) -> None:
        """As the data inside does it."""
        self.data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Set the data inside up."""
        self.data.setup(stage)

    def teardown(self, stage: str | None = None) -> None:
        """As the data inside does it."""
        self.data.teardown(stage)

    def val_dataloader(self) -> object:
        """That of the data inside, no loader where it has none."""
        return self._loader("val_dataloader", self.data.val_dataloader)

    def test_dataloader(self) -> object:
        """That of the data inside, no loader where it has none."""
        return self._loader("test_dataloader", self.data.test_dataloader)

    def predict_dataloader(self) -> object:
        """That of the data inside, no loader where it has none."""
        return self._loader("predict_dataloader", self.data.predict_dataloader)

    def _loader(self, name: str, make: Callable[[], object]) -> object:
        if is_overridden(name, self.data, LightningDataModule):
            return make()
        warnings.filterwarnings("ignore", message="Total length of `.*` across ranks is zero")  # there is none
        return []

    def on_before_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """As the data inside does it."""
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """As the data inside does it."""
        return self.data.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """As the data inside does it: float images, augmented in training."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


def loader_like(loader: DataLoader, dataset: Dataset, **batches: object) -> DataLoader:
    """A loader that is as another one over other items, but for how it makes batches of them.

    Args:
        loader: the other one.
        dataset: items.
        batches: arguments of ``DataLoader`` that say what a batch is.
    """
    return DataLoader(
        dataset,
        **batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
