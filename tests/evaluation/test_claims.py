from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

from torch.distributed import DistStoreError, HashStore, PrefixStore

from lightning_adv.evaluation.claims import Claims, meet, shared_store
from tests.callbacks.strangers import trainer


def work(claims):
    """All that one rank takes, in order."""
    own = [(claims.rank, number) for number in range(claims.batches[claims.rank]) if claims.take(claims.rank, number)]
    return own + list(claims.left())


def test_a_rank_alone_takes_everything_but_the_first_batches_of_the_others():
    taken = work(Claims(HashStore(), 1, [3, 2, 2]))
    assert taken == [(1, 0), (1, 1), (2, 1), (0, 2), (0, 1)]


def test_what_one_rank_left_is_taken_from_its_end():
    store = HashStore()
    slow, idle = Claims(store, 0, [4, 1]), Claims(store, 1, [4, 1])
    assert slow.take(0, 0)
    assert slow.take(0, 1)
    assert idle.take(1, 0)
    assert list(idle.left()) == [(0, 3), (0, 2)]
    assert not slow.take(0, 2)
    assert list(slow.left()) == []


def test_ranks_at_once_do_every_batch_once():
    store, dealt = HashStore(), [40, 1, 0, 23]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(work, [Claims(store, rank, dealt) for rank in range(4)]))
    flat = [each for part in taken for each in part]
    assert sorted(flat) == [(rank, number) for rank, count in enumerate(dealt) for number in range(count)]
    assert all((rank, 0) in taken[rank] for rank in (0, 1, 3))


def test_two_evaluations_do_not_see_each_others_claims():
    store = HashStore()
    first, second = (Claims(PrefixStore(name, store), 0, [1, 2]) for name in ("first", "second"))
    assert first.take(1, 1)
    assert not first.take(1, 1)
    assert second.take(1, 1)


def test_one_rank_shares_nothing():
    assert shared_store(trainer()) is None


class Impatient:
    """A store whose waits end with an error until the others have come, which they do after so many."""

    def __init__(self, patience: int) -> None:
        self.store, self.ended, self.enough, self.patience = HashStore(), 0, Event(), patience

    def set(self, key: str, value: str) -> None:
        self.store.set(key, value)

    def wait(self, keys: list[str], look_up: timedelta) -> None:
        try:
            self.store.wait(keys, look_up)
        except DistStoreError:
            self.ended += 1
            if self.ended == self.patience:
                self.enough.set()
            raise


def test_a_rank_waits_longer_than_any_wait_of_the_store():
    store = Impatient(patience=3)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(meet, store, 0, 0, 2, timedelta(milliseconds=10))
        store.enough.wait()
        assert not early.done(), "three waits have ended with an error, and the other rank has not come"
        meet(store, 0, 1, 2, timedelta(milliseconds=10))
        early.result()


def test_a_meeting_is_not_taken_for_the_one_before():
    store = Impatient(patience=1)
    store.set("0/1", "here")
    meet(store, 0, 0, 2)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(meet, store, 1, 0, 2, timedelta(milliseconds=10))
        store.enough.wait()
        assert not second.done()
        meet(store, 1, 1, 2)
        second.result()
