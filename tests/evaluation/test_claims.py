from concurrent.futures import ThreadPoolExecutor

from torch.distributed import HashStore, PrefixStore

from lightning_adv.evaluation.claims import Claims, shared_store
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
