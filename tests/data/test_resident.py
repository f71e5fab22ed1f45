import pytest
import torch

from lightning_adv.backdoors import Patch
from lightning_adv.data import LazyImages, MNISTSubset, PoisonedDataModule, PurifiedDataModule, ResidentImages
from lightning_adv.errors import InputError
from lightning_adv.purifiers import BitDepth

from .builders import MarkedData, NotingModel, numbers_in, quiet_trainer


def seen_by_training(folder, **common):
    model = NotingModel()
    quiet_trainer(folder, max_epochs=2).fit(model, MarkedData(**common))
    return model


def test_a_resident_set_trains_and_evaluates_on_the_same_batches(tmp_path):
    moved, plain = seen_by_training(tmp_path, resident=True), seen_by_training(tmp_path)
    assert moved.seen == plain.seen
    for ours, theirs in zip(moved.evaluated, plain.evaluated, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_its_images_keep_their_numbers():
    data = MarkedData(resident=True)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert isinstance(loader.dataset, ResidentImages)
        assert not loader.pin_memory
        for batch in loader:
            assert numbers_in(batch.image) == batch.index.tolist()
            assert (batch.index % 4).tolist() == batch.label.tolist()


def test_batches_lie_where_the_images_lie_and_nothing_is_copied_twice():
    data = MarkedData()
    data.setup()
    there = torch.device("meta")  # the one other device that every machine has
    moved = data.datasets["train"].on(there)
    assert {part.device for part in moved[[0, 3]]} == {there}
    assert moved.on(there) is moved
    assert moved.labels.device == moved.index.device == torch.device("cpu")
    assert torch.equal(moved.labels, data.datasets["train"].labels)


def test_a_selection_of_resident_images_is_one_of_the_source():
    data = MarkedData()
    data.setup()
    plain = data.datasets["train"]
    chosen, moved = plain.select([5, 2]), plain.on(torch.device("cpu")).select([5, 2])
    assert all(torch.equal(a, b) for a, b in zip(chosen[[0, 1]], moved[[0, 1]], strict=True))


@pytest.mark.parametrize("copies", [False, True])
def test_resident_images_are_poisoned_as_others(copies):
    def batches(resident):
        clean = MNISTSubset(max_train_samples=60, batch_size=16, resident=resident)
        data = PoisonedDataModule(clean, Patch(size=3), target=2, poisoned=10, cover=9, cover_copies=copies)
        return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]

    for ours, theirs in zip(batches(True), batches(False), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_purified_images_can_be_resident(tmp_path):
    def batch(resident):
        clean = MNISTSubset(max_train_samples=20, batch_size=8, resident=resident)
        data = PurifiedDataModule(clean, BitDepth(1), str(tmp_path))
        data.setup()
        return next(iter(data.train_dataloader()))

    assert all(torch.equal(a, b) for a, b in zip(batch(True), batch(False), strict=True))


def test_files_and_workers_are_refused_with_a_remedy():
    lazy = LazyImages([(torch.zeros(1, 2, 2), 0)], torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="loaded from files, batch by batch; leave it out, and give num_workers"):
        lazy.on(torch.device("cpu"))
    with pytest.raises(InputError, match="num_workers=2 would load them in other processes"):
        MarkedData(resident=True, num_workers=2)
