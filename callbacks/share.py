"""This rank's share of the images that an evaluation looks at: every image on exactly one rank."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SequentialSampler

from lightning_adv.errors import InputError

__all__ = ["EvaluationBatch", "Share"]

DEFAULT_BATCH_SIZE = 128


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

    A seeded choice of at most ``max_samples`` images is dealt out to the ranks in turn; no image is repeated to make
    the shares even, so counts over all ranks are exact. Works with any loader of ``(image, label, ...)`` batches.

    Args:
        trainer: knows the ranks and moves batches to the device (the datamodule's transfer hooks included).
        loader: one of the trainer's loaders; only its data set, workers and collation are used.
        max_samples: images over all ranks; None for all.
        batch_size: images a batch; None for the loader's.
        seed: of the choice.
    """

    def __init__(
        self, trainer: Trainer, loader: DataLoader, max_samples: int | None, batch_size: int | None, seed: int
    ) -> None:
        dataset = getattr(loader, "dataset", None)
        if not hasattr(dataset, "__len__"):
            raise InputError(
                f"an evaluation shares out a data set with a length and an index, got {type(loader).__name__} over "
                f"{type(dataset).__name__}; give the evaluation data as a map-style dataset"
            )
        self.trainer, self.loader = trainer, loader
        self.batch_size = batch_size or _batch_size(loader)
        everything = _indices(trainer, loader)
        limit = _limit(trainer, self.batch_size, max_samples)
        if limit is not None and limit < len(everything):
            chosen = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))[:limit]
            everything = everything[chosen.sort().values]
        self.total = len(everything)
        self.index = everything[trainer.global_rank :: trainer.world_size]

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Batches on the device, in the order of the data set."""
        chunks = [chunk.tolist() for chunk in self.index.split(self.batch_size)] if len(self.index) else []
        for chunk, batch in zip(chunks, self._loader(chunks), strict=True):
            yield self._on_device(batch, torch.tensor(chunk))

    def first(self) -> EvaluationBatch:
        """One image of the data set, also on a rank whose share is empty (to learn the number of classes)."""
        chunk = [int(self.index[0]) if len(self.index) else 0]
        return self._on_device(next(iter(self._loader([chunk]))), torch.tensor(chunk))

    def _loader(self, chunks: list[list[int]]) -> DataLoader:
        # A loader without automatic batching asks its data set for a list of indices; any other one for each image.
        by_list = self.loader.batch_size is None and self.loader.batch_sampler is None
        how = {"sampler": chunks, "batch_size": None} if by_list else {"batch_sampler": chunks}
        return DataLoader(
            self.loader.dataset,
            collate_fn=self.loader.collate_fn,
            num_workers=self.loader.num_workers if len(chunks) > 1 else 0,
            pin_memory=self.loader.pin_memory,
            worker_init_fn=self.loader.worker_init_fn,
            multiprocessing_context=self.loader.multiprocessing_context,
            # Its own generator: the seeds of workers must not be drawn from the RNG that training goes on with.
            generator=torch.Generator().manual_seed(0),
            **how,
        )

    def _on_device(self, batch: tuple, index: Tensor) -> EvaluationBatch:
        batch = self.trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not isinstance(batch[0], Tensor):
            raise InputError(
                f"an evaluation needs batches (image, label, ...), got {type(batch).__name__}; "
                "return a tuple of image and label from the data set"
            )
        return EvaluationBatch(batch[0], batch[1], index.to(batch[0].device))


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


def _batch_size(loader: DataLoader) -> int:
    return loader.batch_size or getattr(loader.sampler, "batch_size", None) or DEFAULT_BATCH_SIZE


def _limit(trainer: Trainer, batch_size: int, max_samples: int | None) -> int | None:
    """``fast_dev_run`` and ``limit_val_batches`` given as a number of batches also limit an evaluation."""
    batches = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    limits = [max_samples] if max_samples is not None else []
    if isinstance(batches, int):
        limits.append(batches * batch_size * trainer.world_size)
    return min(limits, default=None)


def _indices(trainer: Trainer, loader: DataLoader) -> Tensor:
    """Numbers of the images that the loader would visit over all ranks, ascending."""
    sampler = loader.sampler
    if isinstance(loader.batch_sampler, BatchSampler):
        sampler = loader.batch_sampler.sampler
    plain = isinstance(sampler, (SequentialSampler, RandomSampler)) or (
        # also the project's own batch samplers; Lightning's wrapper of a foreign sampler has another data set
        isinstance(sampler, DistributedSampler) and len(sampler.dataset) == len(loader.dataset)
    )
    if plain:
        return torch.arange(len(loader.dataset))
    own = torch.tensor(sorted({int(i) for i in sampler}))
    if trainer.world_size == 1:
        return own
    every: list[Tensor | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(every, own)
    return torch.cat([part for part in every if part is not None]).unique()
