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
