"""Which rank takes which batch, agreed in the store of the process group: an idle rank takes what a slower one left."""

import os
from collections.abc import Iterator, Sequence

from pytorch_lightning import Trainer
from torch import distributed
from torch.distributed import PrefixStore, Store

__all__ = ["Claims", "common_store", "shared_store"]


class Claims:
    """Batches dealt out to ranks, each taken exactly once: a rank takes its own in order, then others' from their end.

    A claim is one addition in the store, which answers 1 to the first who asks; nobody waits for anybody. The first
    batch of a rank is its own in any case, so that none comes out with nothing to show.

    Args:
        store: seen by all ranks and used for nothing else.
        rank: of this process.
        batches: how many were dealt out to each rank.
    """

    def __init__(self, store: Store, rank: int, batches: Sequence[int]) -> None:
        self.store, self.rank, self.batches = store, rank, batches

    def take(self, rank: int, number: int) -> bool:
        """Whether this process is the first to ask for batch ``number`` of ``rank``: it is to do it then."""
        return (number == 0 and rank == self.rank) or self.store.add(f"{rank}/{number}", 1) == 1

    def left(self) -> Iterator[tuple[int, int]]:
        """Take what no one has begun, one at a time: rank and number of each batch."""
        ranks = len(self.batches)
        for step in range(1, ranks):
            other = (self.rank + step) % ranks
            for number in range(self.batches[other] - 1, 0, -1):
                if self.take(other, number):
                    yield other, number


def shared_store(trainer: Trainer) -> Store | None:
    """An empty store that all ranks share; call on every rank. None where there is one rank, or no process group."""
    store = common_store(trainer, "claims")
    # A name of its own for every call: a second trainer of the same processes must not find the claims of the first.
    return None if store is None else PrefixStore(trainer.strategy.broadcast(os.urandom(8).hex()), store)


def common_store(trainer: Trainer, name: str) -> Store | None:
    """The keys under a name in the store of the process group; None where there is one rank, or no process group."""
    if trainer.world_size == 1 or not distributed.is_available() or not distributed.is_initialized():
        return None
    return PrefixStore(name, distributed.distributed_c10d._get_default_store())
