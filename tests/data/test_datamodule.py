import pytest
import torch

from lightning_adv.data import CropFlip, ImageBatch, InMemoryImages, LazyImages, MNISTSubset, Sources
from lightning_adv.errors import InputError

from .builders import MarkedData, NotingModel, marked_images, numbers_in, quiet_trainer


class GivenData(MarkedData):
    """The training images that a test gives."""

    def __init__(self, images, labels, **common):
        super().__init__(**common)
        self.given = images, labels

    def load(self):
        return Sources(InMemoryImages(*self.given), InMemoryImages(marked_images(8), torch.arange(8) % 4))


def set_up(data):
    data.setup()
    return data


def floats(count=34):
    return torch.rand(count, 1, 6, 6)


def labels(count=34):
    return torch.arange(count) % 4


def test_splits_are_disjoint_stratified_and_repeatable():
    one, same, other = (set_up(MarkedData(seed=seed)) for seed in (0, 0, 1))
    sizes = {name: len(data) for name, data in one.datasets.items()}
    assert sizes == {"train": 22, "val": 8, "calibration": 4, "test": 9}
    positions = [set(one.datasets[name].index.tolist()) for name in ("train", "val", "calibration")]
    assert len(set.union(*positions)) == sum(len(part) for part in positions) == 34
    assert one.datasets["val"].labels.bincount().tolist() == [2, 2, 2, 2]
    assert one.datasets["calibration"].labels.bincount().tolist() == [1, 1, 1, 1]
    assert same.datasets["val"].index.tolist() == one.datasets["val"].index.tolist()
    assert set(other.datasets["val"].index.tolist()) != set(one.datasets["val"].index.tolist())


def test_the_index_of_a_batch_addresses_its_images():
    data = set_up(MarkedData())
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.calibration_dataloader()]
    for loader in loaders:
        for batch in loader:
            assert numbers_in(batch.image) == batch.index.tolist()
            assert (batch.index % 4).tolist() == batch.label.tolist()


def test_evaluation_loaders_yield_every_image_once():
    data = set_up(MarkedData(eval_batch_size=3))
    assert sorted(i for batch in data.test_dataloader() for i in batch.index.tolist()) == list(range(9))
    assert max(len(batch.label) for batch in data.test_dataloader()) == 3


def test_images_become_floats_without_a_trainer_and_are_not_augmented():
    data = set_up(MarkedData(augment=CropFlip(padding=2)))
    raw = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(raw, 0)
    assert torch.equal(batch.image, raw.image.float() / 255)
    assert raw.image.dtype == torch.uint8
    assert torch.equal(batch.label, raw.label)


def test_a_foreign_batch_passes_unchanged():
    batch = (torch.zeros(2, 1, 6, 6, dtype=torch.uint8), torch.zeros(2))
    assert MarkedData().on_after_batch_transfer(batch, 0) is batch


def test_only_training_images_are_augmented_and_the_global_generator_is_left_alone(tmp_path):
    data, model = MarkedData(augment=CropFlip(padding=2)), NotingModel()
    plain = NotingModel()
    before = torch.get_rng_state()
    quiet_trainer(tmp_path, max_epochs=1).fit(model, data)
    assert torch.equal(torch.get_rng_state(), before)
    quiet_trainer(tmp_path, max_epochs=1).fit(plain, MarkedData())
    assert [seen[1] for seen in model.seen] == [seen[1] for seen in plain.seen]
    assert all(ours[2] != theirs[2] for ours, theirs in zip(model.seen, plain.seen, strict=True))
    for batch in model.evaluated:
        assert batch.image.dtype == torch.float32
        assert numbers_in(batch.image) == batch.index.tolist()


def test_processes_augment_differently():
    data = set_up(MarkedData())
    data.train_dataloader()

    def drawn(rank):
        data.trainer = type("OneOfTwo", (), {"global_rank": rank})()
        return torch.rand(3, generator=data._augmentation_generator()).tolist()

    assert drawn(0) == drawn(0) != drawn(1)


def test_the_trainer_keeps_samplers_and_every_stage_runs(tmp_path):
    data, model = MarkedData(), NotingModel()
    trainer = quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(model, data)
    assert sorted(i for batch in model.evaluated for i in batch.index.tolist()) == sorted(
        data.datasets["val"].index.tolist()
    )
    model.evaluated.clear()
    trainer.test(model, data)
    assert sorted(i for batch in model.evaluated for i in batch.index.tolist()) == list(range(9))


def test_without_validation_images_training_runs_and_without_calibration_images_asking_says_what_to_do(tmp_path):
    data = MarkedData(val_size=0, calibration_size=0)
    quiet_trainer(tmp_path, max_epochs=1).fit(NotingModel(), data)
    assert len(data.datasets["train"]) == 34
    with pytest.raises(InputError, match="calibration split: there are no images; set calibration_size above 0"):
        data.calibration_dataloader()


def test_limits_choose_stratified_subsets_that_keep_their_indices():
    data = set_up(MarkedData(max_train_samples=12, max_val_samples=4, max_test_samples=8))
    assert [len(data.datasets[split]) for split in ("train", "val", "test")] == [12, 4, 8]
    assert data.datasets["train"].labels.bincount().tolist() == [3, 3, 3, 3]
    batch = data.datasets["train"][[0, 5]]
    assert numbers_in(batch.image) == batch.index.tolist()
    whole = set_up(MarkedData()).datasets["train"]
    assert set(data.datasets["train"].index.tolist()) <= set(whole.index.tolist())


def test_evaluation_loaders_show_images_without_training_transforms():
    data = set_up(MarkedData())
    lazy = LazyImages(data.datasets["test"], torch.arange(9) % 4, lambda image: 1 / 0, lambda image: image[0])
    assert numbers_in(next(iter(data.evaluation_loader(lazy))).image) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": floats().index_fill(0, torch.tensor(7), float("nan"))}, "1 images hold NaN.*first is image 7"),
        ({"images": floats() * 255}, r"must lie in \[0, 1\], got .*divide by 255"),
        ({"images": floats() - 0.5}, r"must lie in \[0, 1\].*leave normalisation to the model"),
        ({"labels": labels() + 1}, r"label 4 of image 3 is outside \[0, 4\)"),
        ({"labels": labels() - 1}, r"label -1 of image 0 is outside \[0, 4\)"),
        ({"labels": torch.ones(34, dtype=torch.long)}, "all 22 images have the label 1.*two classes or more"),
        ({"images": floats(0), "labels": labels(0)}, "train split: there are no images"),
        ({"images": torch.rand(34, 3, 6, 6)}, r"images of shape \(3, 6, 6\).*expected \(1, 6, 6\)"),
    ],
)
def test_broken_data_stop_a_run_with_a_message(changes, message):
    given = {"images": floats(), "labels": labels()} | changes
    with pytest.raises(InputError, match=message):
        GivenData(**given).setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"eval_batch_size": -3}, "eval_batch_size must be at least 1, got -3"),
        ({"max_test_samples": 0}, "max_test_samples must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"val_size": -0.5}, "val_size must be a number of images"),
        ({"calibration_size": 1.0}, "calibration_size must be a number of images"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        MarkedData(**arguments)


def test_cuts_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(InputError, match="take 34 of 34 images and leave none to train on"):
        MarkedData(val_size=30).setup()


def test_a_small_share_is_one_image_at_least():
    assert len(set_up(MarkedData(val_size=0.001)).datasets["val"]) == 1


def test_a_cut_that_groups_leave_empty_is_refused():
    class GroupedData(MarkedData):
        def load(self):
            sources = super().load()
            return Sources(sources.train, sources.test, groups=torch.zeros(34, dtype=torch.long))

    with pytest.raises(InputError, match="val split: the split is empty; change val_size"):
        GroupedData(val_size=4, calibration_size=0).setup()


def test_overfit_batches_points_to_what_works_here(tmp_path):
    with pytest.raises(InputError, match="use max_train_samples and max_val_samples instead"):
        quiet_trainer(tmp_path, max_epochs=1, overfit_batches=1).fit(NotingModel(), MarkedData())


def test_hyperparameters_are_plain_values_that_a_checkpoint_gives_back(tmp_path):
    data = MNISTSubset(batch_size=7, val_size=0.25, augment=CropFlip(), max_train_samples=50, max_val_samples=9)
    assert data.hparams["batch_size"] == 7
    assert "augment" not in data.hparams
    model = NotingModel()
    model.layer = torch.nn.Linear(784, 10)
    model.training_step = lambda batch, batch_idx: model.layer(batch.image.flatten(1)).mean()
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = MNISTSubset.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert (again.batch_size, again.val_size, again.max_samples) == (7, 0.25, {"train": 50, "val": 9, "test": None})


def test_a_batch_is_a_named_tuple():
    assert ImageBatch._fields == ("image", "label", "index")
