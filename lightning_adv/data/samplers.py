"""Which images go into which batch on which process.

The samplers yield lists of positions (batches), for ``DataLoader(..., sampler=..., batch_size=None)``. They derive
from ``DistributedSampler`` so that Lightning keeps them as they are instead of wrapping them.
"""

from collections.abc import Iterator
from itertools import islice, pairwise

import torch
from torch.utils.data.distributed import DistributedSampler

from lightning_adv.data.seeds import derive_seed
from lightning_adv.errors import InputError, at_least_one

__all__ = ["EvaluationBatches", "MixedBatches", "TrainBatches"]


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


class MixedBatches(TrainBatches):
    """Batches of which a fixed share comes from other images, drawn with replacement (Gowal et al., 2021).

    Of a global batch of G images, ``int(fraction * G)`` are drawn from the others; the rest continues the epoch's
    permutation, in which no image comes twice. The others have the positions behind the first ones, from
    ``num_samples`` on. Ranks share the batch in turn. An epoch has ``ceil(num_samples / G)`` batches, about as many as
    without the others, and shows ``1 - fraction`` of the images; it ends earlier where these do not last.

    Args:
        num_samples: number of images.
        batch_size: images in a batch of one process.
        seed: of permutations and draws; together with the epoch, see ``set_epoch``.
        num_replicas: number of processes W.
        rank: of this process, 0 to W - 1.
        shuffle: without it, every epoch begins with the first images in their order; draws are random all the same.
        extra: number of the others.
        fraction: share of a batch that comes from them, in [0, 1).
        whole_passes: an epoch is as long as the images last.

    Raises:
        InputError: a batch that would hold none of the others, or not one image of the first ones for every process.

    Example:
        >>> [len([position for position in batch if position >= 100]) for batch in MixedBatches(100, 50, extra=9)]
        [35, 35]
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        shuffle: bool = True,
        *,
        extra: int,
        fraction: float = 0.7,
        whole_passes: bool = False,
    ) -> None:
        super().__init__(num_samples, batch_size, seed, num_replicas, rank, shuffle)
        self.extra = extra
        self.drawn = int(fraction * self.global_batch_size + 1e-9)  # .29 * 100 is a little below 29
        self.own = self.global_batch_size - self.drawn
        if self.own < num_replicas or self.drawn < (fraction > 0):
            raise InputError(
                f"fraction={fraction} of {self.global_batch_size} images in a batch of all processes leaves {self.own} "
                f"of the data's and {self.drawn} others; a batch needs both: raise batch_size, or change fraction"
            )
        lasting = num_samples // self.own
        self._number = lasting if whole_passes else min(-(-num_samples // self.global_batch_size), lasting)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self._number

    def _batches(self, order: torch.Tensor) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch + self.epoch_shift, 1))
        for own in order.split(self.own)[: len(self)]:
            others = len(order) + torch.randint(self.extra, (self.drawn,), generator=generator)
            yield torch.cat([own, others])[self.rank :: self.num_replicas].tolist()


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
