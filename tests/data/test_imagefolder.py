import numpy as np
import pytest
import torch
from PIL import Image

from lightning_adv.data import ImageFolder
from lightning_adv.errors import InputError


def write_folders(root, splits=("train", "val"), classes=("cat", "dog"), count=10, size=(40, 30)):
    rng = np.random.default_rng(0)
    for split in splits:
        for kind in classes:
            (root / split / kind).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / kind / f"{i}.png")


def folder_data(root, **options):
    return ImageFolder(root=str(root), **({"image_size": (16, 24), "val_size": 4, "calibration_size": 2} | options))


def test_val_is_reported_on_and_validation_images_come_from_train(tmp_path):
    write_folders(tmp_path)
    data = folder_data(tmp_path)
    assert (data.num_classes, data.class_names, data.image_size) == (2, ["cat", "dog"], (16, 24))
    data.setup()
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 14,
        "val": 4,
        "calibration": 2,
        "test": 20,
    }
    batch = data.datasets["val"][[0, 1, 2]]
    assert batch.image.shape == (3, 3, 16, 24)
    assert batch.image.dtype == torch.uint8


def test_an_official_test_folder_makes_val_what_it_says(tmp_path):
    write_folders(tmp_path, ("train", "val", "test"), count=6)
    data = folder_data(tmp_path, calibration_size=0)
    data.setup()
    assert {name: len(part) for name, part in data.datasets.items()} == {"train": 12, "val": 12, "test": 12}


def test_training_images_vary_by_epoch_and_held_out_images_do_not(tmp_path):
    write_folders(tmp_path)
    data = folder_data(tmp_path)
    data.setup()

    def pictures(name, epoch):
        data.datasets[name].set_epoch(epoch)
        return data.datasets[name][[0, 1]].image

    assert torch.equal(pictures("train", 0), pictures("train", 0))
    assert not torch.equal(pictures("train", 0), pictures("train", 1))
    for name in ("val", "calibration", "test"):
        assert torch.equal(pictures(name, 0), pictures(name, 1))


def test_a_square_picture_of_the_right_size_is_left_as_it_is(tmp_path):
    write_folders(tmp_path, size=(16, 16))
    data = folder_data(tmp_path, image_size=16, crop_pct=1.0)
    data.setup()
    batch = data.datasets["test"][[0]]
    path = data.datasets["test"].dataset.samples[int(batch.index[0])][0]
    assert torch.equal(batch.image[0], torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1))


def test_the_first_test_images_are_a_mixture_of_classes(tmp_path):
    write_folders(tmp_path)
    data = folder_data(tmp_path)
    data.setup()
    assert len(data.datasets["test"].labels[:8].unique()) == 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_picture_is_named(tmp_path, num_workers):
    write_folders(tmp_path)
    (tmp_path / "val" / "dog" / "4.png").write_bytes(b"no picture")
    data = folder_data(tmp_path, num_workers=num_workers)
    data.setup()
    with pytest.raises(InputError, match=r"val/dog/4.png"):
        list(data.test_dataloader())


def test_missing_and_differing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"train does not exist; expected folders of pictures"):
        folder_data(tmp_path)
    write_folders(tmp_path, ("train",))
    with pytest.raises(InputError, match=r"val does not exist"):
        folder_data(tmp_path).setup()
    write_folders(tmp_path, ("val",), classes=("cat", "cow"))
    with pytest.raises(InputError, match=r"val must have the class folders of .*differing: cow, dog"):
        folder_data(tmp_path).setup()


def test_files_that_are_no_pictures_of_a_known_kind_are_counted_and_said_to_be_skipped(tmp_path):
    write_folders(tmp_path)
    for name in ("a.gif", "b.gif"):
        Image.new("P", (4, 4)).save(tmp_path / "val" / "cat" / name)
    data = folder_data(tmp_path)
    with pytest.warns(UserWarning, match=r"val: 2 files \(\.gif\) beside 20 pictures are skipped, .*a\.gif the first"):
        data.setup()
    assert len(data.datasets["test"]) == 20


def test_pictures_of_every_kind_look_as_a_viewer_shows_them(tmp_path):
    write_folders(tmp_path, classes=("a", "b"), count=3, size=(16, 16))
    folder = tmp_path / "val" / "b"
    Image.fromarray(np.full((16, 16), 32896, np.uint16)).save(folder / "0.png")  # half of white
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(folder / "1.png")  # transparent over white
    lying = Image.fromarray(np.repeat(np.arange(16, dtype=np.uint8)[:, None] * 16, 16, axis=1))
    lying.save(folder / "2.png", exif=_turned())
    data = folder_data(tmp_path, image_size=16, crop_pct=1.0, val_size=1, calibration_size=1)
    data.setup()
    test = data.datasets["test"]
    shown = {}
    for position in range(len(test)):
        batch = test[[position]]
        shown[test.dataset.samples[int(batch.index)][0][-7:]] = batch.image[0]
    assert (shown["b/0.png"] == 128).all()
    assert (shown["b/1.png"] == 255).all()
    assert shown["b/2.png"][0, 0].tolist() == list(range(240, -1, -16))  # a quarter turn to the right


def test_a_picture_of_32_bits_is_refused_by_name(tmp_path):
    write_folders(tmp_path)
    path = tmp_path / "val" / "dog" / "0.tiff"
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(path)
    data = folder_data(tmp_path)
    data.setup()
    with pytest.raises(InputError, match=r"^[^\n]*0\.tiff: pixels of 32 bits \(mode F\)[^\n]*$"):
        list(data.test_dataloader())


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture a quarter turn to the right
    return exif
