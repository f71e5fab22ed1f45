import copy
import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_adv.backdoors import Patch
from lightning_adv.data import CleansedDataModule, CropFlip, MixedDataModule, PoisonedDataModule, PurifiedDataModule
from lightning_adv.data.mapped import map_npy
from lightning_adv.errors import InputError
from lightning_adv.purifiers import BitDepth
from tests.callbacks.strangers import PlainModule, images
from tests.data.builders import MarkedData, NotingModel, marked_images, numbers_in, quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

FIRST = 1000
"""The number that the first generated image shows."""


def generated(count=30):
    """Images that show numbers from ``FIRST`` on, classes in turn from the third."""
    return marked_images(FIRST + count)[FIRST:].numpy(), (np.arange(count) + 2) % 4


def npz(folder, images=None, labels=None, **more):
    image, label = generated()
    path = folder / "generated.npz"
    np.savez(path, image=image if images is None else images, label=label if labels is None else labels, **more)
    return str(path)


def batches(data):
    data.setup("fit")
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


def both(path, **options):
    return MixedDataModule(MarkedData(batch_size=10), path, 0.7, **options)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NHW", "floats", "npy", "of another name", "Fortran"])
def test_seven_of_ten_images_of_a_batch_are_generated_with_their_own_labels(tmp_path, layout):
    image, label = generated()
    changed = {"NHWC": image.transpose(0, 2, 3, 1), "NHW": image[:, 0], "floats": (image / 255).astype(np.float16)}
    changed["Fortran"] = np.asfortranarray(image)
    image, options = changed.get(layout, image), {}
    if layout == "npy":
        np.save(tmp_path / "image.npy", image)
        np.save(tmp_path / "label.npy", label.astype(np.uint8))
        path = tmp_path / "image.npy"
    elif layout == "of another name":
        np.savez(tmp_path / "x.npz", x=image, y=label)
        path, options = tmp_path / "x.npz", {"images_key": "x", "labels_key": "y"}
    else:
        path = npz(tmp_path, image)
    seen = batches(both(str(path), **options))
    assert len(seen) == 3, "as many as 22 images give without others"
    for batch in seen:
        number, is_made = torch.tensor(numbers_in(batch.image)), batch.index < 0
        assert int(is_made.sum()) == 7
        assert torch.equal(batch.index[is_made], FIRST - 1 - number[is_made]), "-1 is the first"
        assert torch.equal(batch.label[is_made], (number[is_made] - FIRST + 2) % 4)
        assert torch.equal(batch.index[~is_made], number[~is_made])
        assert torch.equal(batch.label[~is_made], number[~is_made] % 4)
    own = torch.cat([batch.index[batch.index >= 0] for batch in seen])
    assert len(own.unique()) == 9, "no image of the data twice"


@pytest.mark.parametrize("named", [("a", "d"), ("0", "3")], ids=["names", "numbers"])
def test_pictures_in_class_folders_are_mixed_in(tmp_path, named):
    image, _ = generated(6)
    for number, pixels in enumerate(image[:, 0]):
        path = tmp_path / named[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    for batch in batches(both(str(tmp_path))):
        number, is_made = torch.tensor(numbers_in(batch.image)), batch.index < 0
        assert torch.equal(batch.label[is_made], (number[is_made] - FIRST) % 2 * 3)
    Image.new("L", (6, 7)).save(tmp_path / named[0] / "0.png")
    with pytest.raises(InputError, match=r"0.png is 6 x 7 pixels, and the data's images are 6 x 6; resize it"):
        both(str(tmp_path)).setup("fit")
    (tmp_path / "nobody").mkdir()
    with pytest.raises(InputError, match="folder nobody has the name of no class, nor a number below 4"):
        both(str(tmp_path)).setup("fit")


def test_the_other_loaders_are_the_data_s_and_need_no_file():
    data = MixedDataModule(MarkedData(), "nowhere.npz")
    data.setup("validate")
    assert [batch.index.tolist() for batch in data.val_dataloader()] == [
        batch.index.tolist() for batch in MarkedData().val_dataloader()
    ]
    with pytest.raises(InputError, match=r"nowhere.npz does not exist; expected an npz or npy file"):
        data.setup("fit")


def refused(folder, changes):
    image, label = generated()
    what = {"images": image, "labels": label} | changes(image, label)
    with pytest.raises(InputError) as error:
        both(npz(folder, **what)).setup("fit")
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (lambda x, y: {"labels": y - 3}, "label -1 of image 0 is outside [0, 4), the classes of the data; leave out"),
        (lambda x, y: {"labels": y + 1}, "label 4 of image 1 is outside [0, 4), the classes of the data; count them"),
        (lambda x, y: {"labels": y[:-1]}, "expected one integer label for each of 30 images, got int64 of shape [29]"),
        (lambda x, y: {"labels": y / 1}, "expected one integer label for each of 30 images, got float64"),
        (lambda x, y: {"labels": np.array([{}] * 30)}, "must hold an array of numbers, not empty; got object"),
        (lambda x, y: {"images": x[:, :, :5]}, "images of shape [30, 1, 5, 6] do not fit data of [1, 6, 6]"),
        (lambda x, y: {"images": x.astype(int)}, "images must be uint8, or floats in [0, 1], got int64"),
        (lambda x, y: {"images": x / 1.0}, "float pixels must lie in [0, 1]"),
        (lambda x, y: {"images": x[:0], "labels": y[:0]}, "must hold an array of numbers, not empty"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(tmp_path, changes, said):
    message = refused(tmp_path, changes)
    assert said in message
    assert "\n" not in message


def test_a_compressed_file_is_refused_with_what_unpacks_it_and_a_cut_one_too(tmp_path):
    image, label = generated()
    np.savez_compressed(tmp_path / "small.npz", image=image, label=label)
    with pytest.raises(
        InputError, match=r"'image' is compressed.* `python -m zipfile -e .*small.npz .*small`, and give"
    ):
        both(str(tmp_path / "small.npz")).setup("fit")
    path = tmp_path / "image.npy"
    np.save(path, image)
    path.write_bytes(path.read_bytes()[:-1])
    np.save(tmp_path / "label.npy", label)
    with pytest.raises(InputError, match=r"image.npy is corrupt .*write it again, or fetch it again"):
        both(str(path)).setup("fit")


@pytest.mark.parametrize("kind", ["text", "picture.jpg", "an npz that is none", "a key that is missing"])
def test_other_files_are_refused_with_their_name(tmp_path, kind):
    path = tmp_path / ("x.npz" if " " in kind else kind)
    path.write_bytes(b"PK")
    if kind == "a key that is missing":
        np.savez(path, image=np.zeros(3))
    with pytest.raises(InputError, match=re.escape(str(path))):
        both(str(path)).setup("fit")


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5])
def test_a_fraction_is_a_share_below_one(fraction):
    with pytest.raises(InputError, match=r"fraction must lie in \[0, 1\)"):
        MixedDataModule(MarkedData(), "x.npz", fraction)


def test_poisoned_data_keep_their_poison_and_generated_images_stay_clean(tmp_path):
    poisoned = PoisonedDataModule(MarkedData(batch_size=8), Patch(size=2), 1, poisoned=8, cover=6, cover_copies=True)
    data = MixedDataModule(poisoned, npz(tmp_path), 0.5, whole_passes=True)
    seen = batches(data)
    number, label = (torch.cat([getattr(batch, key) for batch in seen]) for key in ("index", "label"))
    is_made = number < 0
    assert int(is_made.sum()) == 4 * len(seen)
    assert torch.equal(label[is_made], (1 - number[is_made]) % 4), "(i + 2) % 4 of image i, whose number is -1 - i"
    is_poisoned = torch.isin(number, data.plan.poisoned) & (label == 1)
    assert set(number[is_poisoned].tolist()) == set(data.plan.poisoned.tolist())
    shown = torch.cat([batch.image for batch in seen])
    assert (shown[is_made][:, 0, -1, -1] == 35 / 255).all(), "no corner is white"
    assert (shown[is_poisoned][:, 0, -1, -1] == 1).all()


def test_purified_data_are_mixed_with(tmp_path):
    data = MixedDataModule(PurifiedDataModule(MarkedData(batch_size=10), BitDepth(1), str(tmp_path)), npz(tmp_path))
    for batch in batches(data):
        is_made = batch.index < 0
        assert set(batch.image[~is_made].unique().tolist()) <= {0.0, 1.0}
        assert len(batch.image[is_made].unique()) > 2


@pytest.mark.parametrize(
    "around",
    [
        lambda data: PoisonedDataModule(data, Patch(size=2), 1, 6),
        lambda data: CleansedDataModule(data, "scan"),
        lambda data: PurifiedDataModule(data, BitDepth(1)),
        lambda data: MixedDataModule(data, "y.npz"),
    ],
    ids=["poisoned", "cleansed", "purified", "mixed"],
)
def test_nothing_goes_around_mixed_data(around):
    data = both("x.npz")
    with pytest.raises(InputError, match="put "):
        around(data)


def fit(folder, path, ckpt_path=None, **options):
    model, data = NotingModel(), MarkedData(augment=CropFlip(padding=1), num_workers=options.pop("num_workers", 0))
    callbacks = [ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)]
    trainer = quiet_trainer(folder, callbacks=callbacks, num_sanity_val_steps=0, max_epochs=2)
    trainer.fit(model, MixedDataModule(data, path, 0.5, **options), ckpt_path=ckpt_path, weights_only=True)
    return model


@pytest.mark.parametrize("whole_passes", [False, True])
def test_a_run_resumed_at_any_step_is_the_uninterrupted_one_bit_for_bit(tmp_path, whole_passes):
    path, folder = npz(tmp_path), tmp_path / "run"
    torch.manual_seed(0)
    whole = fit(folder, path, whole_passes=whole_passes)
    written = {int(each.stem.removeprefix("step=")): each for each in folder.glob("step=*.ckpt")}
    assert len(written) == (22 if whole_passes else 12)
    for step in sorted(written)[:: 3 if whole_passes else 1]:
        resumed = fit(tmp_path / "run", path, written[step], whole_passes=whole_passes)
        assert resumed.seen == whole.seen[step:], step
        assert torch.equal(resumed.layer.weight, whole.layer.weight), step


def test_a_checkpoint_does_not_go_on_with_other_images_or_another_fraction(tmp_path):
    path, other = npz(tmp_path), tmp_path / "other"
    other.mkdir()
    fit(tmp_path, path)
    for changed in ({"labels": generated()[1][::-1]}, {"images": generated()[0][::-1]}):
        with pytest.raises(InputError, match="trained with other extra images or another fraction"):
            fit(tmp_path, npz(other, **changed), tmp_path / "step=3.ckpt")
    with pytest.raises(InputError, match=r"\(0.5 of 30 .*, now 0.5 of 30 .*, whole passes\)"):
        fit(tmp_path, path, tmp_path / "step=3.ckpt", whole_passes=True)


class Plain(LightningDataModule):
    """Another project's data: a shuffled loader of (image, label)."""

    def train_dataloader(self):
        return DataLoader(images(20), batch_size=6, shuffle=True)


def test_the_data_of_another_project_keep_their_kind_of_batches(tmp_path):
    pixels = (images(40).tensors[0].numpy() * 255).round().astype(np.uint8)
    np.savez(tmp_path / "made.npz", image=pixels.transpose(0, 2, 3, 1), label=np.arange(40) % 4)
    data = MixedDataModule(Plain(), str(tmp_path / "made.npz"), 0.5)
    seen = list(data.train_dataloader())
    assert [len(label) for _, label in seen] == [6, 6, 6, 6]
    known = {tuple(image.flatten().tolist()) for image in images(20).tensors[0]}
    for image, _ in seen:
        assert sum(tuple(each.flatten().tolist()) in known for each in image) == 3
    quiet_trainer(tmp_path, max_epochs=1).fit(PlainModule(), data)
    assert [label.tolist() for _, label in data.train_dataloader()] == [label.tolist() for _, label in seen]
    np.savez(tmp_path / "made.npz", image=pixels, label=np.arange(40) % 5)
    with pytest.raises(InputError, match=r"label 4 of image 4 is outside \[0, 4\)"):
        MixedDataModule(Plain(), str(tmp_path / "made.npz")).train_dataloader()


def huge(folder, count):
    """An npy file of so many grey images of 28 x 28 that takes no room on the disk, and their labels."""
    for name, shape in (("image", (count, 28, 28)), ("label", (count,))):
        with (folder / f"{name}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + int(np.prod(shape)))
    return folder / "image.npy"


class Digits(MarkedData):
    """Of the size of ten million others."""

    image_size = (28, 28)

    def load(self):
        sources = super().load()
        for split in (sources.train, sources.test):
            split._images = torch.zeros(len(split), 1, 28, 28, dtype=torch.uint8)
        return sources


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def test_ten_million_images_take_the_memory_of_a_batch(tmp_path):
    path = huge(tmp_path, 10_000_000)
    assert path.stat().st_size > 7e9
    data = MixedDataModule(Digits(train_count=3000, batch_size=300), str(path), 0.9)
    data.setup("fit")
    loader = data.train_dataloader()
    next(iter(loader))
    before = resident()
    numbers = torch.cat([batch.index for _ in range(3) for batch in loader])
    assert numbers.min() < -9_900_000, "drawn from all over the file"
    assert resident() - before < 20e6
    assert len(pickle.dumps(loader.dataset.extra)) < 2000, "a worker process gets the place, not the pixels"
    assert copy.deepcopy(map_npy(path)).shape == (10_000_000, 28, 28)
