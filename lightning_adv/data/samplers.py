"""Which images go into which batch on which process.

Both samplers yield lists of positions (batches), for ``DataLoader(..., sampler=..., batch_size=None)``. They derive
from ``DistributedSampler`` so that Lightning keeps them as they are instead of wrapping them.
"""

from collections.abc import Iterator
from itertools import islice, pairwise

import torch
from torch.utils.data.distributed import DistributedSampler

from lightning_adv.data.seeds import derive_seed
from lightning_adv.errors import InputError, at_least_one

__all__ = ["EvaluationBatches", "TrainBatches"]


class _Batches(DistributedSampler):
    def __init__(self, num_samples: int, batch_size: int, num_replicas: int, rank: int, shuffle: bool, seed: int):
        at_least_one(batch_size=batch_size)
        if num_samples < num_replicas:
            raise InputError(
                f"{num_samples} images cannot be shared by {num_replicas} processes; use more images or fewer processes"
            )
        super().__init__(range(num_samples), num_replicas, rank, shuffle, seed)
        self.batch_size = batch_size


class TrainBatches(_Batches):
    """Batches of a fresh permutation of all images in every epoch.

    The global batch i holds places i * B * W to (i + 1) * B * W of the permutation, and rank r of W takes every W-th of
    them from the r-th: W processes with batch size B see the same global batches as one with batch size B * W. All
    ranks get the same number of batches of the same size. An incomplete last global batch is dropped, except when it is
    the only one: then it is cut to a multiple of W.

    Args:
        num_samples: number of images.
        batch_size: images in a batch of one process.
        seed: of the permutations; together with the epoch, see ``set_epoch``.
        num_replicas: number of processes W.
        rank: of this process, 0 to W - 1.
        shuffle: without it, every epoch goes through the images in their order.

    Raises:
        InputError: if there are fewer images than processes.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        shuffle: bool = True,
    ) -> None:
        super().__init__(num_samples, batch_size, num_replicas, rank, shuffle, seed)
        usable = num_samples - num_samples % num_replicas
        self.global_batch_size = min(batch_size * num_replicas, usable)
        # A resumed loader sets these: where the next iteration starts, and what to add to the epoch it is told.
        self.first_batch = 0
        self.epoch_shift = 0

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self.dataset) // self.global_batch_size

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self._batches(self._order()), self.first_batch, None)

    def _order(self) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(len(self.dataset))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch + self.epoch_shift))
        return torch.randperm(len(self.dataset), generator=generator)

    def _batches(self, order: torch.Tensor) -> Iterator[list[int]]:
        for start in range(0, len(self) * self.global_batch_size, self.global_batch_size):
            yield order[start : start + self.global_batch_size][self.rank :: self.num_replicas].tolist()


class EvaluationBatches(_Batches):
    """Batches that give every image to exactly one process, none twice, and every process equally many batches.

    Rank r of W takes every W-th image from the r-th. The shares differ by at most one image; each is cut into the same
    number of nearly equal batches, because a DistributedDataParallel forward broadcasts buffers and a rank with one
    batch more would wait for ever. Where shares of unequal length meet ``batch_size=1`` a batch may hold two images.

    Args:
        num_samples: number of images.
        batch_size: largest number of images in a batch.
        num_replicas: number of processes W.
        rank: of this process, 0 to W - 1.

    Raises:
        InputError: if there are fewer images than processes.
    """

    def __init__(self, num_samples: int, batch_size: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(num_samples, batch_size, num_replicas, rank, shuffle=False, seed=0)
        largest_share = -(-num_samples // num_replicas)
        self.num_batches = min(-(-largest_share // batch_size), num_samples // num_replicas)

    def __len__(self) -> int:
        """Batches, the same number on every process."""
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        share = range(self.rank, len(self.dataset), self.num_replicas)
        bounds = [len(share) * i // self.num_batches for i in range(self.num_batches + 1)]
        return (list(share[start:stop]) for start, stop in pairwise(bounds))
