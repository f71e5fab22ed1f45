import pytest
import torch
from torch.distributed import HashStore
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from lightning_adv.data.samplers import EvaluationBatches
from lightning_adv.errors import InputError
from lightning_adv.evaluation.share import Share, evaluation_loader
from tests.callbacks.recipes import SmallData
from tests.callbacks.strangers import PlainModule, images, trainer

COUNT = 23


def attached(**options):
    """A trainer that has a module to move batches with."""
    runner = trainer(**options)
    runner.strategy.connect(PlainModule())
    return runner


class OfMany:
    """A trainer as one of several ranks sees it."""

    def __init__(self, rank, world):
        self.trainer, self.global_rank, self.world_size = attached(), rank, world

    def __getattr__(self, name):
        return getattr(self.trainer, name)


def share(loader, runner=None, max_samples=None, batch_size=None, seed=0):
    return Share(runner or attached(), loader, max_samples, batch_size, seed)


def indices(each):
    return [int(i) for batch in each for i in batch.index]


@pytest.mark.parametrize("max_samples", [None, 1, 2, 10, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_is_on_exactly_one_rank(world, max_samples):
    loader = DataLoader(images(COUNT), batch_size=4)
    parts = [indices(share(loader, OfMany(rank, world), max_samples)) for rank in range(world)]
    whole = indices(share(loader, max_samples=max_samples))
    assert sorted(index for part in parts for index in part) == whole
    assert len(whole) == min(max_samples or COUNT, COUNT)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("max_samples", [None, 10])
def test_all_the_images_chosen_can_be_had_on_every_rank(max_samples):
    loader = DataLoader(images(COUNT), batch_size=4)
    whole = indices(share(loader, max_samples=max_samples))
    for rank in range(3):
        part = share(loader, OfMany(rank, 3), max_samples)
        assert indices(part.on_every_rank()) == whole
        assert len(indices(part)) < len(whole)


@pytest.mark.parametrize("max_samples", [None, 5])
def test_all_labels_are_known_on_every_rank(max_samples):
    loader = DataLoader(images(COUNT), batch_size=4)
    whole = torch.cat([batch.label for batch in share(loader, max_samples=max_samples)])
    assert all(torch.equal(share(loader, OfMany(rank, 2), max_samples).labels(), whole) for rank in range(2))


def test_nothing_is_loaded_for_labels_that_the_data_set_knows(monkeypatch):
    loader = SmallData().val_dataloader()
    few = share(loader, max_samples=7)
    whole = torch.cat([batch.label for batch in few])
    monkeypatch.setattr(type(loader.dataset), "_load", None)
    assert torch.equal(few.labels(), whole)


def test_a_batch_holds_the_images_that_its_index_names():
    dataset = images(COUNT)
    for batch in share(DataLoader(dataset, batch_size=4, shuffle=True), max_samples=9):
        assert torch.equal(batch.image, dataset.tensors[0][batch.index])
        assert torch.equal(batch.label, dataset.tensors[1][batch.index])
        assert len(batch.image) <= 4


@pytest.mark.parametrize(("world", "batches", "size"), [(1, 4, 8), (1, 9, 12), (2, 4, 6), (4, 4, 2), (1, 1, 2)])
def test_batches_become_one_as_long_as_a_rank_has_three(world, batches, size):
    loader = DataLoader(images(40), batch_size=2)
    shares = [share(loader, OfMany(rank, world)).merged(batches) for rank in range(world)]
    assert {each.batch_size for each in shares} == {size}
    assert sorted(i for each in shares for i in indices(each)) == list(range(40))


def test_fewer_images_are_a_part_of_more():
    whole = share(DataLoader(images(COUNT), batch_size=4), max_samples=15)
    part = whole.fewer(6)
    assert part.total == 6
    assert set(indices(part)) < set(indices(whole))
    assert whole.fewer(100).total == 15


def test_a_rank_without_images_knows_the_number_of_classes_all_the_same():
    empty = share(DataLoader(images(COUNT)), OfMany(1, 2), max_samples=1)
    assert (len(empty), indices(empty)) == (0, [])
    assert len(empty.first().image) == 1


class OddOnes(BatchSampler):
    """A user's own batch sampler: odd numbers in pairs."""

    def __init__(self) -> None:
        super().__init__(SequentialSampler(range(COUNT)), 2, drop_last=False)

    def __iter__(self):
        odd = list(range(1, COUNT, 2))
        return (odd[i : i + 2] for i in range(0, len(odd), 2))


ODD = list(range(1, COUNT, 2))
SAMPLERS = {
    "sequential": ({"batch_size": 4}, list(range(COUNT))),
    "shuffled": ({"batch_size": 4, "shuffle": True}, list(range(COUNT))),
    "dropping": ({"batch_size": 4, "drop_last": True}, list(range(COUNT))),
    "subset": ({"batch_size": 4, "sampler": SubsetRandomSampler(ODD)}, ODD),
    "plain list": ({"batch_size": 4, "sampler": ODD}, ODD),
    "own batches": ({"batch_sampler": OddOnes()}, ODD),
    "ranks": ({"sampler": DistributedSampler(range(COUNT), num_replicas=2, rank=0)}, list(range(COUNT))),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_images_are_those_that_the_loader_visits(name):
    options, expected = SAMPLERS[name]
    assert indices(share(DataLoader(images(COUNT), **options))) == expected


def test_a_random_sampler_of_few_images_limits_their_number():
    dataset = images(COUNT)
    loader = DataLoader(dataset, sampler=RandomSampler(dataset, num_samples=5))
    assert len(indices(share(loader))) == 5


def test_a_samplers_own_generator_is_left_as_it_was():
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    share(DataLoader(images(COUNT), sampler=SubsetRandomSampler(ODD, generator=generator)))
    assert torch.equal(before, generator.get_state())


def test_this_projects_loaders_are_shared_out_too_and_converted():
    data = SmallData()
    loader = data.evaluation_loader(images_of(data))
    batches = list(share(loader, batch_size=5))
    assert [len(batch.image) for batch in batches] == [5, 5, 2]
    assert isinstance(loader.sampler, EvaluationBatches)


def images_of(data):
    data.setup()
    return data.datasets["val"]


@pytest.mark.parametrize(("options", "expected"), [({"limit_val_batches": 2}, 8), ({"limit_val_batches": 0.5}, 11)])
def test_a_limit_on_validation_batches_limits_the_evaluation(options, expected):
    loader = DataLoader(images(COUNT), batch_size=4)
    assert len(indices(share(loader, attached(**options)))) == expected


def test_workers_load_the_same_images():
    loader = DataLoader(images(COUNT), batch_size=4, num_workers=1)
    assert indices(share(loader)) == list(range(COUNT))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(images(4))


class Prepared(Dataset):
    """Its items are batches already."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple:
        return images(8)[:]


def labelled(image=None, label=None):
    good = images(8).tensors
    return DataLoader(TensorDataset(good[0] if image is None else image, good[1] if label is None else label))


REFUSED = {
    "a stream": (DataLoader(Stream()), "map-style dataset"),
    "ready batches": (DataLoader(Prepared(), batch_size=None), "image by image"),
    "images only": (DataLoader(TensorDataset(torch.rand(4, 3, 8, 8))), r"batches \(image, label, ...\)"),
    "uint8": (labelled(image=torch.zeros(8, 3, 8, 8, dtype=torch.uint8)), "uint8 is divided by 255"),
    "flat": (labelled(image=torch.rand(8, 12)), r"got torch.float32 of shape \(1, 12\)"),
    "one-hot": (labelled(label=torch.eye(8)), "integers, one an image"),
    "columns": (labelled(label=torch.zeros(8, 1, dtype=torch.long)), r"shape \(1, 1\)"),
    "nothing": (DataLoader(TensorDataset(torch.rand(0, 3, 8, 8), torch.zeros(0))), "at least one image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_evaluated_is_refused_with_a_reason(name):
    loader, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        list(share(loader))


def test_a_missing_loader_is_named():
    with pytest.raises(InputError, match="needs a val_dataloader"):
        evaluation_loader(trainer(), "val")


def test_an_idle_rank_goes_on_with_what_a_slower_one_left():
    loader, store = DataLoader(images(COUNT), batch_size=4), HashStore()
    slow, idle = (share(loader, OfMany(rank, 2)).balanced(store) for rank in range(2))
    begun = iter(slow)
    first = next(begun)
    taken = indices(idle)
    rest = [int(i) for batch in begun for i in batch.index]
    assert rest == []  # its first batch is its own, the idle one has done all others
    assert sorted(first.index.tolist() + taken) == list(range(COUNT))
    assert taken[: len(range(1, COUNT, 2))] == list(range(1, COUNT, 2))  # its own first


def test_balanced_images_are_those_dealt_out_and_each_comes_once():
    loader, store = DataLoader(images(COUNT), batch_size=2), HashStore()
    parts = [iter(share(loader, OfMany(rank, 3), 20).balanced(store)) for rank in range(3)]
    seen = []
    while parts:  # in turn
        for part in list(parts):
            batch = next(part, None)
            if batch is None:
                parts.remove(part)
                continue
            seen += batch.index.tolist()
    assert sorted(seen) == indices(share(loader, max_samples=20))


def test_balanced_on_one_rank_is_the_share_itself():
    loader = DataLoader(images(COUNT), batch_size=4)
    assert indices(share(loader).balanced()) == indices(share(loader))
