import pytest

from lightning_adv.data import EvaluationBatches, TrainBatches
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
