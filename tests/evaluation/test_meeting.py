import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from torch.distributed import HashStore

from lightning_adv.errors import RankLost
from lightning_adv.evaluation.meeting import LOOKS_A_WATCH, Heart, Watch, meet
from tests.processes import in_ranks

QUICK = 0.001, 0.001


def come(store, number, rank, ranks=2, patience=1):
    meet(store, number, rank, ranks, QUICK, Watch(store, patience))


class Watched:
    """A store that says when a rank has looked for the others so often."""

    def __init__(self, looks: int) -> None:
        self.store, self.left, self.enough = HashStore(), looks, Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def check(self, keys: list[str]) -> bool:
        self.left -= 1
        if not self.left:
            self.enough.set()
        return self.store.check(keys)


def test_a_rank_waits_as_long_as_another_that_never_began_to_beat_or_still_beats():
    for heart in (False, True):
        store = Watched(looks=60 * LOOKS_A_WATCH)
        if heart:
            beating = Heart(store.store, 1, interval=1e-4)
        with ThreadPoolExecutor(1) as pool:
            early = pool.submit(come, store, 0, 0, patience=10 if heart else 1)
            assert store.enough.wait(60)
            assert not early.done()
            come(store, 0, 1)
            early.result()
        if heart:
            assert beating.beats()
            beating.stop()
            assert not beating.beats()


def test_a_meeting_is_not_taken_for_the_one_before():
    store = Watched(looks=5)
    store.set("0/1", "here")
    come(store, 0, 0)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(come, store, 1, 0)
        assert store.enough.wait(60)
        assert not second.done()
        come(store, 1, 1)
        second.result()


@pytest.mark.parametrize("ended", [False, True])
def test_a_rank_that_has_ended_or_fell_silent_is_named_by_all_that_wait(ended):
    store = HashStore()
    heart = Heart(store, 1, interval=60.0)
    if ended:
        heart.stop()
    watches = [Watch(store, patience=10**6 if ended else 3) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(meet, store, 0, rank, 3, (0.001, 0.05), watch)
            for rank, watch in zip((0, 2), watches, strict=True)
        ]
        for each in waiting:
            with pytest.raises(RankLost, match=r"^rank 1 has ended" if ended else r"^rank 1 has not been heard of"):
                each.result()
    heart.stop()


def test_patience_begins_anew_with_every_beat():
    store = HashStore()
    watch = Watch(store, patience=3)
    for beats in range(4):
        store.add("beats/1", 1)
        for count in range(3):
            assert not watch.lost([0, 1]), (beats, count)
    assert watch.lost([0, 1]).startswith("rank 1 ")
    assert not watch.lost([0])


KILLED = """
import os, signal, sys
from types import SimpleNamespace

from torch import distributed

from lightning_adv.errors import RankLost
from lightning_adv.evaluation.meeting import begin_to_beat, wait_for_every_rank

distributed.init_process_group("gloo")
rank = distributed.get_rank()
trainer = SimpleNamespace(world_size=2, global_rank=rank)
begin_to_beat(trainer, 0.1)
wait_for_every_rank(trainer)
if rank == int(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
try:
    wait_for_every_rank(trainer, (0.02, 0.1), patience=4)
except RankLost as lost:
    sys.exit(str(lost))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "said"), [(1, "rank 1 has not been heard of"), (0, "keeps the store")])
def test_a_killed_process_ends_the_wait_of_the_other(killed, said, tmp_path):
    outcomes = in_ranks(KILLED, tmp_path, 2, killed)
    assert outcomes[killed].returncode == -signal.SIGKILL
    assert outcomes[1 - killed].returncode == 1
    assert said in outcomes[1 - killed].stderr.splitlines()[-1]
