"""A training loader that continues in the middle of an epoch."""

import warnings
import zlib
from collections.abc import Iterator
from functools import cached_property

import torch
from torch.utils.data import DataLoader

from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.images import IndexedImages
from lightning_adv.data.samplers import TrainBatches
from lightning_adv.data.seeds import derive_seed
from lightning_adv.errors import InputError

__all__ = ["ImageLoader"]


class ImageLoader(DataLoader):
    """Loads training batches; its place in the epoch goes into Lightning's checkpoints (``state_dict``).

    After ``load_state_dict`` the next iteration continues the same permutation behind the batches that were already
    handed out. Batches are counted when the loop receives them, so workers that load ahead do not matter. A state from
    the end of an epoch makes the next iteration a whole one. Iterating leaves the global random generators alone.

    Args:
        dataset: the training images.
        sampler: their batches on this process.
        num_workers: processes that load; images in memory need none.
        pin_memory: copy batches into page-locked memory, for a faster transfer to a GPU.
    """

    def __init__(
        self, dataset: IndexedImages, sampler: TrainBatches, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        super().__init__(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # otherwise every iteration draws a worker seed from the global generator
        )
        self._epoch = 0  # whose permutation is handed out
        self._told_epoch = 0  # what Lightning, or another caller of set_epoch, calls it
        self._batches = 0
        self._resuming = False

    def __iter__(self) -> Iterator[ImageBatch]:
        """Batches of the sampler's current epoch.

        Nothing happens before the first batch is asked for: Lightning makes the iterator before it tells the epoch, and
        workers started then would load the wrong permutation.
        """
        told = self.sampler.epoch
        first_batch = 0
        if self._resuming and told == self._told_epoch and self._batches < len(self):
            first_batch = self._batches
        elif self._resuming:
            # The next epoch, whatever its number: under max_steps, Lightning counts an epoch twice that had just ended
            # when the checkpoint was written.
            self.sampler.epoch_shift = self._epoch + 1 - told
        self._resuming, self._told_epoch, self._epoch = False, told, told + self.sampler.epoch_shift
        self._batches = self.sampler.first_batch = first_batch
        self.dataset.set_epoch(self._epoch)
        self.generator.manual_seed(derive_seed(self.sampler.seed, self._epoch))
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    @property
    def place(self) -> tuple[int, int]:
        """The epoch and how many of its batches were handed out."""
        return self._epoch, self._batches

    def state_dict(self) -> dict[str, int]:
        """The epoch, its number in the caller's count, batches handed out, images in a batch of all processes.

        With them how many images there are, and a checksum of their labels.
        """
        return {
            "epoch": self._epoch,
            "told_epoch": self._told_epoch,
            "batches": self._batches,
            "global_batch_size": self.sampler.global_batch_size,
            "images": len(self.dataset),
            "labels": self._labels,
        }

    @cached_property
    def _labels(self) -> int:
        return zlib.crc32(self.dataset.labels.cpu().numpy().tobytes())

    def check_images(self, state: dict[str, int]) -> None:
        """Refuse a state that was written with other images; one that says nothing of them is taken.

        Raises:
            InputError: another number of images, or other labels.
        """
        images, there = state.get("images", len(self.dataset)), len(self.dataset)
        if images != there or state.get("labels", self._labels) != self._labels:
            having = f"{images} images" if images != there else f"{there} images with other labels"
            raise InputError(
                f"the checkpoint's run was trained on {having}, and this one has {there}: go on with the data and the "
                "seed of that run, or begin a new run from its weights, by --model.weights=FILE"
            )

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from ``state`` in the next iteration.

        Raises:
            InputError: it was written with other images.
        """
        self.check_images(state)
        if state["global_batch_size"] != self.sampler.global_batch_size and state["batches"] < len(self):
            warnings.warn(
                f"the checkpoint was written with {state['global_batch_size']} images in a batch of all processes, now"
                f" it is {self.sampler.global_batch_size}: the rest of epoch {state['epoch']} will not hold exactly the"
                " images that were left; keep batch_size times the number of processes, or resume at an epoch's end",
                stacklevel=2,
            )
        self._epoch, self._told_epoch, self._batches = state["epoch"], state["told_epoch"], state["batches"]
        self._resuming = True
        self.sampler.epoch_shift = self._epoch - self._told_epoch
        self.sampler.set_epoch(self._told_epoch)
