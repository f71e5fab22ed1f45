import pytest

from lightning_adv.data import EvaluationBatches, MixedBatches, TrainBatches
from lightning_adv.errors import InputError


def evaluation(num_samples, batch_size, replicas):
    return [list(EvaluationBatches(num_samples, batch_size, replicas, rank)) for rank in range(replicas)]


def training(num_samples, batch_size, replicas, epoch=0, seed=0):
    samplers = [TrainBatches(num_samples, batch_size, seed, replicas, rank) for rank in range(replicas)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


CASES = [(n, b, w) for n in (4, 7, 128, 1001) for b in (1, 2, 3, 64, 500) for w in (1, 2, 3, 4)]


@pytest.mark.parametrize(("num_samples", "batch_size", "replicas"), CASES)
def test_evaluation_gives_every_sample_to_one_rank_in_equally_many_batches(num_samples, batch_size, replicas):
    batches = evaluation(num_samples, batch_size, replicas)
    assert sorted(i for rank in batches for batch in rank for i in batch) == list(range(num_samples))
    assert len({len(rank) for rank in batches}) == 1
    sizes = [len(batch) for rank in batches for batch in rank]
    assert min(sizes) >= 1
    assert max(sizes) <= max(batch_size, 2 if num_samples % replicas else 1)
    assert all(len(sampler) == len(list(sampler)) for sampler in [EvaluationBatches(num_samples, batch_size)])


def test_evaluation_refuses_fewer_samples_than_processes():
    with pytest.raises(InputError, match="3 images cannot be shared by 4 processes"):
        EvaluationBatches(3, 2, 4, 0)


@pytest.mark.parametrize(("num_samples", "batch_size", "replicas"), CASES)
def test_training_ranks_get_disjoint_batches_of_one_size_and_number(num_samples, batch_size, replicas):
    batches = training(num_samples, batch_size, replicas)
    assert len({len(rank) for rank in batches}) == 1
    assert len({len(batch) for rank in batches for batch in rank}) == 1
    seen = [i for rank in batches for batch in rank for i in batch]
    assert len(set(seen)) == len(seen)
    dropped = num_samples - len(seen)
    assert dropped < max(min(batch_size * replicas, num_samples), 1)
    assert len(TrainBatches(num_samples, batch_size, 0, replicas, 0)) == len(batches[0])


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_w_ranks_with_batch_b_train_on_the_global_batches_of_one_rank_with_batch_wb(replicas):
    alone = training(1001, 8 * replicas, 1, epoch=3)[0]
    together = training(1001, 8, replicas, epoch=3)
    assert len(alone) == len(together[0])
    for i, batch in enumerate(alone):
        assert set(batch) == {index for rank in together for index in rank[i]}


def test_a_set_smaller_than_a_batch_is_one_batch_shared_evenly():
    assert [len(batch) for batch in training(10, 64, 1)[0]] == [10]
    assert [[len(batch) for batch in rank] for rank in training(11, 64, 2)] == [[5], [5]]


def test_epochs_and_seeds_differ_and_repeat():
    assert training(100, 10, 1, epoch=0) != training(100, 10, 1, epoch=1)
    assert training(100, 10, 1, epoch=1, seed=0) != training(100, 10, 1, epoch=0, seed=1)
    assert training(100, 10, 1, epoch=1) == training(100, 10, 1, epoch=1)


def test_without_shuffling_training_goes_through_the_images_in_order():
    assert list(TrainBatches(7, 3, shuffle=False)) == [[0, 1, 2], [3, 4, 5]]


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        TrainBatches(10, 0)


def mixed(num_samples, batch_size, replicas=1, epoch=0, **options):
    samplers = [MixedBatches(num_samples, batch_size, 0, replicas, rank, **options) for rank in range(replicas)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "fraction", "batches", "drawn"),
    [(50_000, 512, 0.7, 98, 358), (1000, 100, 0.29, 10, 29), (1000, 64, 0.5, 16, 32), (100, 64, 0.1, 1, 6)],
    ids=["of the recipe", "not rounded down twice", "a last batch that is whole", "as long as the images last"],
)
def test_a_mixed_batch_holds_the_share_that_was_asked_for(num_samples, batch_size, fraction, batches, drawn):
    (seen,) = mixed(num_samples, batch_size, extra=77, fraction=fraction)
    assert len(seen) == batches == len(MixedBatches(num_samples, batch_size, extra=77, fraction=fraction))
    own = [position for batch in seen for position in batch if position < num_samples]
    others = [position - num_samples for batch in seen for position in batch if position >= num_samples]
    assert all(sum(position >= num_samples for position in batch) == drawn for batch in seen)
    assert len(own) == len(set(own)) == batches * (batch_size - drawn)
    assert set(others) <= set(range(77))
    assert len(set(others)) > 0.9 * min(77, len(others)) - 5, "drawn from all of them"


def test_an_epoch_of_whole_passes_shows_all_of_the_images():
    (seen,) = mixed(100, 10, extra=3, fraction=0.8, whole_passes=True)
    assert sorted(position for batch in seen for position in batch if position < 100) == list(range(100))


def test_without_a_share_mixed_batches_are_those_of_training():
    assert mixed(101, 10, epoch=2, extra=3, fraction=0.0) == training(101, 10, 1, epoch=2)


@pytest.mark.parametrize("replicas", [2, 3])
def test_w_ranks_mix_the_global_batches_of_one_rank(replicas):
    alone = mixed(1001, 12 * replicas, epoch=3, extra=500, fraction=0.7)[0]
    together = mixed(1001, 12, replicas, epoch=3, extra=500, fraction=0.7)
    for i, batch in enumerate(alone):
        assert sorted(batch) == sorted(position for rank in together for position in rank[i])
        assert len({len(rank[i]) for rank in together}) == 1
        shares = [sum(position >= 1001 for position in rank[i]) for rank in together]
        assert max(shares) - min(shares) <= 1
    assert alone != mixed(1001, 12 * replicas, epoch=4, extra=500, fraction=0.7)[0]


@pytest.mark.parametrize(("batch_size", "replicas", "fraction"), [(3, 1, 0.1), (4, 2, 0.99)])
def test_a_batch_that_cannot_be_mixed_is_refused(batch_size, replicas, fraction):
    with pytest.raises(InputError, match="a batch needs both: raise batch_size"):
        mixed(100, batch_size, replicas, extra=5, fraction=fraction)
