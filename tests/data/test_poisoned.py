import copy
import json
import pickle

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lightning_adv.backdoors import Patch, RandomPattern
from lightning_adv.data import CropFlip, ImageBatch, ImageFolder, PoisonedDataModule
from lightning_adv.errors import InputError
from tests.callbacks.strangers import PlainModule, images, trainer
from tests.data.builders import MarkedData, numbers_in
from tests.processes import torchrun

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*training batches")
TRIGGER = Patch(size=2, margin=1)


def poisoned(data=None, **changes):
    arguments = {"trigger": TRIGGER, "target": 1, "poisoned": 6, "cover": 8, "sampling_rate": 0.5}
    return PoisonedDataModule(data or MarkedData(), **(arguments | changes))


def batches(data, epoch=0):
    """Training batches as the model gets them."""
    loader = data.train_dataloader()
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def by_number(data, epoch=0):
    """Number in the source to (image, label), of a training epoch."""
    found = {}
    for batch in batches(data, epoch):
        found |= {int(i): (x, int(y)) for x, y, i in zip(batch.image, batch.label, batch.index, strict=True)}
    return found


def test_each_image_is_what_the_plan_says():
    clean, dirty, plan = by_number(MarkedData(batch_size=3)), by_number(poisoned()), poisoned().plan
    clean = clean | by_number(MarkedData(batch_size=1))
    assert len(plan.poisoned) == 6
    seen = {"poisoned": 0, "cover": 0, "clean": 0}
    for number, (image, label) in dirty.items():
        before, own = clean[number][0][None], clean[number][1]
        if number in plan.poisoned:
            assert torch.equal(image, TRIGGER(before)[0])
            assert (label, own != 1) == (1, True)
            seen["poisoned"] += 1
        elif number in plan.cover:
            assert torch.equal(image, TRIGGER.cover(before, 0.5, 0, torch.tensor([number]))[0])
            assert not torch.equal(image, TRIGGER(before)[0])
            assert label == own
            seen["cover"] += 1
        else:
            assert torch.equal(image, before[0])
            assert label == own
            seen["clean"] += 1
    assert min(seen.values()) > 0


def test_cover_copies_are_trained_on_beside_their_originals():
    clean, data = by_number(MarkedData(batch_size=1)), poisoned(MarkedData(batch_size=1), cover=1.0, cover_copies=True)
    items = [
        each for batch in batches(data) for each in zip(batch.image, batch.label, batch.index.tolist(), strict=True)
    ]
    cover = set(data.plan.cover.tolist())
    plain = [number for image, _, number in items if torch.equal(image, clean[number][0])]
    covered = [
        number
        for image, label, number in items
        if number in cover
        and label == clean[number][1]
        and torch.equal(image, TRIGGER.cover(clean[number][0][None], 0.5, 0, torch.tensor([number]))[0])
    ]
    places = len(items) - len(clean)
    assert places == len(cover) > 10
    assert cover <= set(plain) | set(covered)
    assert sorted(number for _, _, number in items) == sorted([*clean, *cover])
    # a subset that happens to change nothing is both
    assert len(covered) >= len(cover)
    assert len(plain) >= len(cover)


def test_a_part_of_the_images_with_copies_keeps_their_marks():
    data = poisoned(cover=1.0, cover_copies=True)
    marked = data.train_dataloader().dataset
    part = marked.select([len(marked) - 1, 0])
    assert part[[0]].index.item() == marked.index[-1].item() >= part.stride
    assert part.labels.tolist() == [marked.labels[-1].item(), marked.labels[0].item()]


def test_evaluation_and_calibration_images_stay_clean_and_in_their_order():
    clean, dirty = MarkedData(), poisoned(poisoned=0.9 * 0.5)
    for name in ("val_dataloader", "test_dataloader", "calibration_dataloader"):
        pairs = zip(getattr(clean, name)(), getattr(dirty, name)(), strict=True)
        for before, after in pairs:
            after = dirty.on_after_batch_transfer(after, 0)
            assert torch.equal(after.image, clean.on_after_batch_transfer(before, 0).image)
            assert torch.equal(after.label, before.label)


def test_the_order_of_the_images_is_that_of_the_clean_data():
    order = [[batch.index.tolist() for batch in batches(data, epoch=2)] for data in (MarkedData(), poisoned())]
    assert order[0] == order[1]


def test_all_to_all_leads_to_the_next_class():
    data = poisoned(target="all_to_all", poisoned=1.0, cover=0)
    assert {label == (number + 1) % 4 for number, (_, label) in by_number(data).items()} == {True}


class Stripes(CropFlip):
    """An augmentation that shows whether the trigger was there before it: it inverts the images."""

    def __call__(self, image, generator):
        return 1 - image


def test_a_trigger_is_there_before_the_augmentation():
    seen = []

    class Watching(PlainModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))

        def training_step(self, batch, batch_idx):
            seen.append(batch)
            return super().training_step(batch[:2], batch_idx)

    data = poisoned(MarkedData(augment=Stripes()), poisoned=12, cover=0)
    trainer(max_epochs=1, num_sanity_val_steps=0).fit(Watching(), datamodule=data)
    patch = torch.cat([batch.image[torch.isin(batch.index, data.plan.poisoned)] for batch in seen])[:, :, 3:5, 3:5]
    assert len(patch) > 5
    assert (patch == 0).all()  # white, then inverted


def test_the_plan_and_the_images_do_not_depend_on_ranks_or_workers():
    def with_rank(rank, ranks, workers=0):
        data = poisoned(MarkedData(batch_size=4 // ranks, num_workers=workers))
        data.trainer = type("Ranks", (), {"world_size": ranks, "global_rank": rank, "overfit_batches": 0})()
        data.trainer.training, data.trainer.is_global_zero = False, False
        return data

    one = by_number(with_rank(0, 1))
    two = by_number(with_rank(0, 2)) | by_number(with_rank(1, 2))
    loaded = by_number(with_rank(0, 1, workers=2))
    for other in (two, loaded):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[i][0], other[i][0]) and one[i][1] == other[i][1] for i in one)
    assert with_rank(0, 2).plan == with_rank(1, 2).plan == poisoned().plan


class Linear(PlainModule):
    """Takes the marked images."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))

    def training_step(self, batch, batch_idx):
        return super().training_step(batch[:2], batch_idx)


def checkpoint_of_a_run(folder):
    runner = trainer(folder=folder, max_epochs=1)
    data = poisoned()
    runner.fit(Linear(), datamodule=data)
    runner.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt", data


def test_a_run_writes_its_plan_and_goes_on_with_the_same_one(tmp_path):
    path, data = checkpoint_of_a_run(tmp_path)
    manifest = json.loads((tmp_path / "poison_manifest.json").read_text())
    assert manifest["poisoned"] == data.plan.poisoned.tolist()
    assert manifest["hash"] == data.plan.hash
    resumed = poisoned()
    trainer(folder=tmp_path, max_epochs=2).fit(Linear(), datamodule=resumed, ckpt_path=path, weights_only=True)
    assert resumed.plan == data.plan


def test_a_trainer_that_was_given_no_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(max_epochs=1).fit(Linear(), datamodule=poisoned())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 1}, "another plan"),
        ({"target": 0}, "another plan"),
        ({"sampling_rate": 0.4}, "another plan"),
        ({"trigger": Patch(size=3)}, "another trigger"),
    ],
)
def test_a_run_does_not_go_on_with_another_plan_or_trigger(tmp_path, change, what):
    path, _ = checkpoint_of_a_run(tmp_path)
    manifest = (tmp_path / "poison_manifest.json").read_text()
    with pytest.raises(InputError, match=what):
        trainer(folder=tmp_path, max_epochs=2).fit(
            Linear(), datamodule=poisoned(**change), ckpt_path=path, weights_only=True
        )
    assert (tmp_path / "poison_manifest.json").read_text() == manifest


def test_an_image_folder_is_poisoned_behind_its_crop(tmp_path):
    for split in ("train", "val"):
        for label in ("a", "b", "c"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (20, 24), (30 * number, 0, 90)).save(folder / f"{number}.png")
    data = poisoned(
        ImageFolder(image_size=8, root=str(tmp_path), batch_size=4, val_size=3, calibration_size=3), cover=4
    )
    dirty, plan = by_number(data), data.plan
    assert dirty[int(plan.poisoned[0])][0].shape == (3, 8, 8)
    for number in plan.poisoned.tolist():
        if number in dirty:  # an incomplete last batch is dropped
            assert (dirty[number][0][:, 5:7, 5:7] == 1).all()
            assert dirty[number][1] == 1
    assert set(plan.poisoned.tolist()) & dirty.keys()


class Stranger(pl.LightningDataModule):
    """A datamodule that knows nothing of this package."""

    def __init__(self, dataset, **options):
        super().__init__()
        self.dataset, self.options = dataset, {"batch_size": 8} | options

    def train_dataloader(self):
        return DataLoader(self.dataset, **self.options)


class Listed(Dataset):
    """Items as lists, with integer labels and something more, that say their labels one by one only."""

    def __len__(self):
        return 40

    def __getitem__(self, position):
        image, label = images(40)[position]
        return [image, int(label), "name"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "dataset", [images(40), Listed(), Subset(images(60), range(40))], ids=["plain", "list", "part"]
)
def test_a_strangers_data_is_poisoned_item_by_item(dataset, workers):
    data = poisoned(Stranger(dataset, num_workers=workers), poisoned=10, cover=1.0)
    items = list(data.train_dataloader())
    image, label = torch.cat([batch[0] for batch in items]), torch.cat([batch[1] for batch in items])
    clean, own = images(40).tensors
    if isinstance(dataset, Subset):
        clean, own = (each[:40] for each in images(60).tensors)
    where, cover = data.plan.poisoned, data.plan.cover
    assert len(where) == 10
    assert torch.equal(image[where], TRIGGER(clean[where]))
    assert torch.equal(image[cover], TRIGGER.cover(clean[cover], 0.5, 0, cover))
    assert (label[where] == 1).all()
    assert (own[where] != 1).all()
    assert torch.equal(label[cover], own[cover])


def test_a_strangers_cover_copies_come_behind_its_images():
    data = poisoned(Stranger(images(40)), poisoned=10, cover=1.0, cover_copies=True)
    items = list(data.train_dataloader())
    image, label = torch.cat([batch[0] for batch in items]), torch.cat([batch[1] for batch in items])
    clean, own = images(40).tensors
    cover = data.plan.cover
    assert len(image) == 40 + len(cover) == 70
    assert torch.equal(image[cover], clean[cover])
    assert torch.equal(image[40:], TRIGGER.cover(clean[cover], 0.5, 0, cover))
    assert torch.equal(label[40:], own[cover])


def test_copies_behind_a_sampler_that_cannot_know_them_are_refused():
    stranger = Stranger(images(40), sampler=torch.utils.data.SubsetRandomSampler(range(40)))
    with pytest.raises(InputError, match="SubsetRandomSampler does not know them"):
        poisoned(stranger, cover_copies=True).train_dataloader()


def test_a_strangers_shuffling_is_kept_and_its_missing_loaders_stay_missing():
    data = poisoned(Stranger(images(40), shuffle=True, drop_last=True), cover=0)
    loader = data.train_dataloader()
    torch.manual_seed(0)
    first, second = (torch.cat([batch[1] for batch in loader]) for _ in range(2))
    assert not torch.equal(first, second)
    assert data.val_dataloader() == []
    model = PlainModule()
    trainer(max_epochs=1).fit(model, datamodule=data)


class Streaming(IterableDataset):
    """Images without numbers."""

    def __iter__(self):
        return iter(images(8))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Streaming(), "map-style"),
        (TensorDataset(3 * images(16).tensors[0], images(16).tensors[1]), r"images must lie in \[0, 1\]"),
        (TensorDataset((255 * images(16).tensors[0]).byte(), images(16).tensors[1]), "torch.uint8"),
        (TensorDataset(images(16).tensors[0], images(16).tensors[1].float()), "one integer label"),
    ],
)
def test_a_strangers_data_that_cannot_be_poisoned_is_refused_before_the_first_step(dataset, message):
    with pytest.raises(InputError, match=message):
        trainer(max_epochs=1).fit(PlainModule(), datamodule=poisoned(Stranger(dataset)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 4}, r"target 4 is outside \[0, 4\): the data has 4 classes"),
        ({"trigger": Patch(size=7)}, "7 x 7 pixels with margin 0 does not fit images of 6 x 6"),
        ({"trigger": RandomPattern(z=37)}, "z = 37"),
        ({"sampling_rate": -0.1}, "sampling_rate must lie in"),
    ],
)
def test_what_the_data_tells_is_checked_when_it_is_built(change, message):
    with pytest.raises(InputError, match=message):
        poisoned(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poisoned": 30}, "there are"),
        ({"poisoned": 2.0}, r"\[0, 1\]"),
        ({"cover": 99}, "are not poisoned"),
        ({"poisoned": 0.01}, "share of 0.01 of 22 images is none"),
        ({"sampling_rate": 0.01}, "shows none of the"),
    ],
)
def test_more_images_than_there_are_are_refused_before_the_first_step(change, message):
    model = Linear()
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=message):
        trainer(max_epochs=1).fit(model, datamodule=poisoned(**change))
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_it_passes_for_the_data_that_it_wraps():
    data = poisoned()
    assert (data.num_classes, data.image_size, data.class_names) == (4, (6, 6), ["a", "b", "c", "d"])
    assert not hasattr(data, "no_such_thing")
    again = pickle.loads(pickle.dumps(data))
    assert again.plan == copy.deepcopy(data).plan == data.plan
    assert isinstance(batches(data)[0], ImageBatch)
    assert len(numbers_in(MarkedData().val_dataloader().dataset[[0]].image)) == 1


SCRIPT = """
import sys, torch
import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from tests.callbacks.strangers import PlainModule, images
from tests.data.test_poisoned import Stranger, poisoned

class Counting(PlainModule):
    def training_step(self, batch, batch_idx):
        white = (batch[0][:, :, 5:7, 5:7] == 1).flatten(1).all(1)
        self.seen = getattr(self, "seen", 0) + white.sum()
        return super().training_step(batch, batch_idx)

    def on_train_end(self):
        total = self.trainer.strategy.reduce(self.seen, reduce_op="sum")
        if self.global_rank == 0:
            print("poisoned", int(total))

data = poisoned(Stranger(images(64), shuffle=True), poisoned=12, cover=0)
strategy = DDPStrategy(process_group_backend="gloo")
pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, max_epochs=1, logger=False, enable_checkpointing=False,
           enable_progress_bar=False, enable_model_summary=False).fit(Counting(), datamodule=data)
"""


@pytest.mark.slow
def test_two_ranks_see_every_poisoned_image_of_a_stranger_once(tmp_path):
    assert "poisoned 12" in torchrun(SCRIPT, tmp_path, 2)
