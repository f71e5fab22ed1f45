"""This rank's share of the images that an evaluation looks at: every image on exactly one rank."""

import copy
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.distributed import Store
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from lightning_adv.attacks.labels import as_labels
from lightning_adv.data import IndexedImages
from lightning_adv.errors import InputError
from lightning_adv.evaluation.claims import Claims, shared_store
from lightning_adv.evaluation.meeting import wait_for_every_rank
from lightning_adv.pixels import check_images

__all__ = ["EvaluationBatch", "Share", "evaluation_loader", "from_every_rank", "training_loader"]

DEFAULT_BATCH_SIZE = 128
FEWEST = 3
"""Batches of a rank that are left, at least, where some become one: others can take them over, and a kill costs one."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class EvaluationBatch:
    """Images on the device, float in [0, 1], their labels and their numbers in the data set.

    Args:
        image: [N, C, H, W].
        label: [N] int64.
        index: [N] int64; keys the noise of attacks, so that results do not depend on batches or ranks.
    """

    image: Tensor
    label: Tensor
    index: Tensor


class Share:
    """The images of a loader's data set that this rank evaluates, in batches.

    A seeded choice of at most ``max_samples`` of the images that the loader visits is dealt out to the ranks in turn;
    none is repeated to make the shares even, so counts over all ranks are exact. ``drop_last`` and the order of the
    loader have no say. Works with any loader of ``(image, label, ...)`` batches over a data set with an index. Make it
    on all ranks and with the RNG isolated: a foreign sampler is asked for its indices.

    Args:
        trainer: knows the ranks and moves batches to the device (the datamodule's transfer hooks included).
        loader: one of the trainer's loaders; its data set, sampler, workers and collation are used.
        max_samples: images over all ranks; None for all. ``limit_val_batches`` and its like also limit.
        batch_size: images a batch; None for the loader's.
        seed: of the choice.

    Raises:
        InputError: an iterable data set, one that makes its own batches, or no image.
    """

    def __init__(
        self, trainer: Trainer, loader: DataLoader, max_samples: int | None, batch_size: int | None, seed: int
    ) -> None:
        _check(loader)
        self.trainer, self.loader, self.seed = trainer, loader, seed
        self.batch_size = batch_size or _batch_size(loader)
        self._candidates = _indices(trainer, loader)
        if not len(self._candidates):
            raise InputError("an evaluation needs at least one image, and its data loader has none")
        limit = _limit(trainer, loader, self.batch_size, len(self._candidates))
        self._claims: Claims | None = None
        self._choose(limit if max_samples is None else min(limit, max_samples))

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Batches on the device, in the order of the data set."""
        rank, claims = self.trainer.global_rank, self._claims
        chunks = self._dealt(rank)
        for number, (chunk, batch) in enumerate(zip(chunks, self._loader(chunks), strict=True)):
            if claims is not None and not claims.take(rank, number):
                break  # an idle rank has begun this one, and took those after it before
            yield self._on_device(batch, torch.tensor(chunk))
        for other, number in claims.left() if claims is not None else ():
            chunk = self._dealt(other)[number]
            yield self._on_device(next(iter(self._loader([chunk]))), torch.tensor(chunk))

    def first(self) -> EvaluationBatch:
        """One image of the data set, also on a rank whose share is empty (to learn the number of classes)."""
        return self.at(self._candidates[:1])

    def at(self, positions: Tensor) -> EvaluationBatch:
        """The images at some positions [N] of the data set, N >= 1, whoever's share they are."""
        return self._on_device(next(iter(self._loader([positions.tolist()]))), positions)

    def fewer(self, samples: int, after: int = 0) -> "Share":
        """A choice of ``samples`` of these images, over all ranks, dealt out in the same way.

        Args:
            samples: how many, those of ``after`` included.
            after: leave the choice of so many out.
        """
        other = copy.copy(self)
        other._choose(min(samples, self.total), after)
        return other

    def balanced(self, store: Store | None = None) -> "Share":
        """The same images; a rank that is done with its own batches goes on with those that others have not begun.

        For work whose cost differs from image to image, in results that do not depend on who does it. Call on every
        rank. Smaller batches balance better.

        Args:
            store: of this iteration alone, seen by all ranks; None for one of the process group.
        """
        other = copy.copy(self)
        if store is None:
            wait_for_every_rank(self.trainer)  # one may come from work that others are done with
            store = shared_store(self.trainer)
        ranks = range(self.trainer.world_size)
        if store is not None:
            other._claims = Claims(store, self.trainer.global_rank, [len(self._dealt(rank)) for rank in ranks])
        return other

    def merged(self, batches: int) -> "Share":
        """The same images in batches so many times as large, or less so: no rank has fewer than three because of it.

        Args:
            batches: that become one.
        """
        other, most = copy.copy(self), self.total // (self.trainer.world_size * self.batch_size * FEWEST)
        other.batch_size = self.batch_size * max(1, min(batches, most))
        return other

    def labels(self) -> Tensor:
        """[N] int64 of all the images chosen, on each rank; nothing is loaded where the data set knows its labels."""
        dataset = self.loader.dataset
        if isinstance(dataset, IndexedImages):
            return dataset.labels[self._chosen]
        return torch.cat([batch.label.cpu() for batch in self.on_every_rank()])

    def on_every_rank(self) -> "Share":
        """All the images chosen, on each rank."""
        other = copy.copy(self)
        other.index = self._chosen
        return other

    def _choose(self, limit: int, after: int = 0) -> None:
        chosen = self._candidates
        if after or limit < len(chosen):
            order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(self.seed))
            chosen = chosen[order[after:limit].sort().values]  # a prefix of one order: choices of two sizes are nested
        self._chosen, self.total = chosen, len(chosen)
        self.index = self._of(self.trainer.global_rank)

    def _of(self, rank: int) -> Tensor:
        return self._chosen[rank :: self.trainer.world_size]

    def _dealt(self, rank: int) -> list[list[int]]:
        index = self.index if rank == self.trainer.global_rank else self._of(rank)
        return [chunk.tolist() for chunk in index.split(self.batch_size)] if len(index) else []

    def _loader(self, chunks: list[list[int]]) -> DataLoader:
        # A loader without automatic batching asks its data set for a list of indices; any other one for each image.
        how = {"sampler": chunks, "batch_size": None} if _unbatched(self.loader) else {"batch_sampler": chunks}
        return DataLoader(
            self.loader.dataset,
            collate_fn=self.loader.collate_fn,
            num_workers=self.loader.num_workers if len(chunks) > 1 else 0,
            pin_memory=self.loader.pin_memory,
            worker_init_fn=self.loader.worker_init_fn,
            multiprocessing_context=self.loader.multiprocessing_context if len(chunks) > 1 else None,
            generator=torch.Generator().manual_seed(0),  # the seeds of its workers
            **how,
        )

    def _on_device(self, batch: tuple, index: Tensor) -> EvaluationBatch:
        state = self.trainer.state
        stage, state.stage = state.stage, RunningStage.VALIDATING  # also within training: no image is augmented here
        try:
            batch = self.trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        finally:
            state.stage = stage
        if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not all(isinstance(b, Tensor) for b in batch[:2]):
            raise InputError(
                f"an evaluation needs batches (image, label, ...), got {type(batch).__name__}; "
                "return a tuple of image and label from the data set"
            )
        image, label = batch[:2]
        check_images(image, "images of the data set")
        if len(image) != len(index):
            raise InputError(f"the data set gave {len(image)} images where it was asked for {len(index)}")
        return EvaluationBatch(image, as_labels(label, len(index)), index.to(image.device))


def evaluation_loader(trainer: Trainer, stage: str) -> DataLoader:
    """The first validation or test loader of the trainer.

    Raises:
        InputError: there is none.
    """
    loaders = trainer.test_dataloaders if stage == "test" else trainer.val_dataloaders
    flat = CombinedLoader(loaders).flattened if loaders is not None else []
    if not flat:
        name = "test_dataloader" if stage == "test" else "val_dataloader"
        raise InputError(f"an evaluation needs a {name}: give one to the trainer or the datamodule")
    return flat[0]


def training_loader(trainer: Trainer, who: str) -> DataLoader:
    """The first loader of the trainer's training images, outside of fit that of its datamodule.

    Random transforms of the project's image sets are switched off; poison is not.

    Args:
        trainer: of the run.
        who: needs them, for the message.

    Raises:
        InputError: there is none.
    """
    loaders = trainer.train_dataloader
    if loaders is None and trainer.datamodule is not None:
        loaders = trainer.datamodule.train_dataloader()
    flat = CombinedLoader(loaders).flattened if loaders is not None else []
    if not flat:
        raise InputError(
            f"{who} looks at training images, and this trainer has none: run it with a datamodule that has a "
            "train_dataloader"
        )
    if not isinstance(flat[0].dataset, IndexedImages):
        return flat[0]
    return DataLoader(
        flat[0].dataset.as_trained(),
        sampler=flat[0].sampler,
        batch_size=None,
        num_workers=flat[0].num_workers,
        pin_memory=flat[0].pin_memory,
    )


def from_every_rank(trainer: Trainer, own: Found) -> list[Found]:
    """What each rank has found, in the order of the ranks; call on every rank, with tensors on the CPU."""
    found = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(found, own)
    return found


def _check(loader: DataLoader) -> None:
    dataset = loader.dataset if isinstance(loader, DataLoader) else None
    if not isinstance(dataset, Sized) or isinstance(dataset, IterableDataset):
        raise InputError(
            f"an evaluation shares out a data set with a length and an index, got {type(loader).__name__} over "
            f"{type(dataset).__name__}; give the evaluation data as a map-style dataset"
        )
    if _unbatched(loader) and type(loader.sampler) in (SequentialSampler, RandomSampler, DistributedSampler):
        raise InputError(
            "an evaluation makes its own batches, and the data set of this loader (batch_size=None) comes in batches; "
            "give the evaluation data image by image"
        )


def _unbatched(loader: DataLoader) -> bool:
    return loader.batch_size is None and loader.batch_sampler is None


def _batch_size(loader: DataLoader) -> int:
    sources = (loader, loader.batch_sampler, loader.sampler)
    return next((size for each in sources if (size := getattr(each, "batch_size", None))), DEFAULT_BATCH_SIZE)


def _limit(trainer: Trainer, loader: DataLoader, batch_size: int, total: int) -> int:
    """``limit_val_batches``, ``fast_dev_run`` and a random sampler of fewer images also limit an evaluation."""
    if isinstance(loader.sampler, RandomSampler):
        total = min(total, loader.sampler.num_samples)
    batches = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    if isinstance(batches, int):
        return min(total, batches * batch_size * trainer.world_size)
    return max(1, int(batches * total))


def _indices(trainer: Trainer, loader: DataLoader) -> Tensor:
    """Numbers of the images that the loader would visit over all ranks, ascending."""
    batches = loader.batch_sampler
    sampler = loader.sampler if batches is None else batches.sampler if type(batches) is BatchSampler else batches
    plain = isinstance(sampler, (SequentialSampler, RandomSampler)) or (
        # also the project's own batch samplers; Lightning's wrapper of a foreign sampler has another data set
        isinstance(sampler, DistributedSampler) and len(sampler.dataset) == len(loader.dataset)
    )
    if plain:
        return torch.arange(len(loader.dataset))
    own = _visited(sampler)
    if trainer.world_size == 1:
        return own
    return torch.cat(from_every_rank(trainer, own)).unique()


def _visited(sampler: Iterable) -> Tensor:
    """What a foreign sampler, or batch sampler, yields; its own generator is left as it was."""
    if isinstance(sampler, DistributedSampler):  # Lightning's wrapper, whose data set is what the foreign one yields
        sampler = [sampler.dataset[position] for position in range(len(sampler.dataset))]
    generator = getattr(sampler, "generator", None)
    state = generator.get_state() if isinstance(generator, torch.Generator) else None
    parts = [torch.as_tensor(each, dtype=torch.long).flatten() for each in sampler]
    if state is not None:
        generator.set_state(state)
    return torch.cat(parts).unique() if parts else torch.zeros(0, dtype=torch.long)
