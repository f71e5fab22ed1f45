"""Where ranks wait for each other however long that takes, and how one that is gone is missed there.

Whoever starts the processes may not care when one of them dies: ``srun`` does not unless it is told to. Collectives
give up after half an hour; a wait without an end needs another sign of life, and that is a thread which counts in the
store of the process group.
"""

import atexit
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from itertools import count
from threading import Event, Thread

from pytorch_lightning import Trainer
from torch.distributed import DistError, Store

from lightning_adv.errors import RankLost
from lightning_adv.evaluation.claims import common_store

__all__ = ["Heart", "Watch", "begin_to_beat", "meet", "wait_for_every_rank"]

INTERVAL = 5.0
"""Seconds between two beats of a heart."""
PAUSES = 0.02, 2.0
"""Seconds between two looks of a rank that waits, first and at most: the pause doubles."""
LOOKS_A_WATCH, PATIENCE = 5, 18
"""Looks between two counts of the others' beats, and counts without a beat after which a rank is lost: three minutes.
Counts, no time: a job that was suspended as a whole is not dead when it wakes up."""
LOST = "lost"

_meetings = count()
"""Of this process; every rank comes to as many, so that their numbers agree."""
_hearts: list["Heart"] = []
"""Of this process: one at most."""


class Heart:
    """Counts in a store, from a thread of its own, as long as this process lives.

    Args:
        store: seen by all ranks.
        rank: of this process.
        interval: seconds between two beats.
    """

    def __init__(self, store: Store, rank: int, interval: float) -> None:
        self._store, self._rank, self._interval = store.clone(), rank, interval  # a connection of its own
        self._stopped = Event()
        self._store.add(_beats(self._rank), 1)
        self._thread = Thread(target=self._beat, daemon=True, name="heart")
        self._thread.start()

    def beats(self) -> bool:
        """Whether it still does: a store that is gone ends it."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Let it be still before the interpreter ends, and say so: nobody needs to wait for this process any more."""
        self._stopped.set()
        self._thread.join(self._interval)
        with suppress(DistError):
            self._store.set(_end(self._rank), "here")

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._store.add(_beats(self._rank), 1)
            except DistError:
                return


class Watch:
    """Which ranks have ended or fallen silent, by what their hearts said.

    Args:
        store: in which hearts count.
        patience: counts without a beat after which a rank is silent.
    """

    def __init__(self, store: Store, patience: int) -> None:
        self.store, self.patience = store, patience
        self._heard: dict[int, int] = {}
        self._silences: Counter[int] = Counter()

    def lost(self, ranks: Collection[int]) -> str:
        """Count once more; the first rank that has ended, or has begun to beat and been silent for too long, and which.

        Args:
            ranks: those that are looked at.

        Returns:
            A sentence, empty where there is none.
        """
        for rank in ranks:
            if self.store.check([_beats(rank)]):
                beats = self.store.add(_beats(rank), 0)
                self._silences[rank] = self._silences[rank] + 1 if self._heard.get(rank) == beats else 0
                self._heard[rank] = beats
            if self.store.check([_end(rank)]):
                return f"rank {rank} has ended and says why itself"
            if self._silences[rank] >= self.patience:
                return f"rank {rank} has not been heard of for minutes, probably killed (often a lack of memory)"
        return ""


def begin_to_beat(trainer: Trainer, interval: float = INTERVAL) -> None:
    """From now on other ranks can tell whether this process lives; once for all that wait in it.

    Args:
        trainer: of the run.
        interval: seconds between two beats.
    """
    store = common_store(trainer, "meetings")
    if store is None or (_hearts and _hearts[0].beats()):
        return
    _hearts[:] = [Heart(store, trainer.global_rank, interval)]
    atexit.register(_hearts[0].stop)


def wait_for_every_rank(trainer: Trainer, pauses: tuple[float, float] = PAUSES, patience: int = PATIENCE) -> None:
    """Wait until all ranks have come here, however long the slowest takes: a collective gives up after half an hour.

    Args:
        trainer: of the run.
        pauses: seconds between two looks, first and at most.
        patience: counts without a beat after which a rank is lost.

    Raises:
        RankLost: one of them is gone.
    """
    store = common_store(trainer, "meetings")
    if store is None:
        return
    try:
        meet(store, next(_meetings), trainer.global_rank, trainer.world_size, pauses, Watch(store, patience))
    except DistError as error:
        keeper = "the process that keeps the store of the process group (the first rank, or the launcher)"
        raise RankLost(f"{keeper} is gone") from error


def meet(
    store: Store,
    number: int,
    rank: int,
    ranks: int,
    pauses: tuple[float, float],
    watch: Watch,
) -> None:
    """Come to the meeting of a number, and wait for all others there; signals are heard meanwhile.

    Args:
        store: seen by all ranks.
        number: of the meeting.
        rank: of this process.
        ranks: how many there are.
        pauses: seconds between two looks, first and at most.
        watch: over the others.

    Raises:
        RankLost: one of the others does not live any more, as this rank or another one found.
    """
    store.set(_place(number, rank), "here")
    everyone = [_place(number, each) for each in range(ranks)]
    (pause, longest), pausing = pauses, Event()
    for look in count(1):
        if store.check(everyone):
            return
        if store.check([LOST]):
            raise RankLost(store.get(LOST).decode())
        if look % LOOKS_A_WATCH == 0:
            absent = [each for each in range(ranks) if not store.check([_place(number, each)])]
            if lost := watch.lost(absent):
                store.set(LOST, lost)
                pausing.wait(2 * longest)  # the store may go with this process, and the others must read it first
        pausing.wait(pause)
        pause = min(2 * pause, longest)


def _place(number: int, rank: int) -> str:
    return f"{number}/{rank}"


def _end(rank: int) -> str:
    return f"end/{rank}"


def _beats(rank: int) -> str:
    return f"beats/{rank}"
