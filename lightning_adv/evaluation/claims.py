"""Which rank takes which batch, agreed in the store of the process group: an idle rank takes what a slower one left."""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count

from pytorch_lightning import Trainer
from torch import distributed
from torch.distributed import DistStoreError, PrefixStore, Store

__all__ = ["Claims", "meet", "shared_store", "wait_for_every_rank"]

_meetings = count()
"""Of this process; every rank comes to as many, so that their numbers agree."""


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


def wait_for_every_rank(trainer: Trainer) -> None:
    """Wait until all ranks have come here, however long the slowest takes: a collective gives up after half an hour."""
    if _has_group(trainer):
        meet(_store("meetings"), next(_meetings), trainer.global_rank, trainer.world_size)


def meet(store: Store, number: int, rank: int, ranks: int, look_up: timedelta = timedelta(seconds=2)) -> None:
    """Come to the meeting of a number, and wait for all others there; signals are heard whenever it looks up."""
    store.set(f"{number}/{rank}", "here")
    everyone = [f"{number}/{each}" for each in range(ranks)]
    while True:
        try:
            return store.wait(everyone, look_up)
        except DistStoreError:  # not yet; a lost connection is another error
            continue


def shared_store(trainer: Trainer) -> Store | None:
    """An empty store that all ranks share; call on every rank. None where there is one rank, or no process group."""
    if not _has_group(trainer):
        return None
    # A name of its own for every call: a second trainer of the same processes must not find the claims of the first.
    name = trainer.strategy.broadcast(os.urandom(8).hex())
    return _store(f"claims/{name}")


def _has_group(trainer: Trainer) -> bool:
    return trainer.world_size > 1 and distributed.is_available() and distributed.is_initialized()


def _store(name: str) -> Store:
    return PrefixStore(name, distributed.distributed_c10d._get_default_store())
