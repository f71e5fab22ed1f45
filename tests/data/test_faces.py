import numpy as np
import pytest
import torch
from PIL import Image

from lightning_adv.data import Faces
from lightning_adv.errors import InputError


def test_an_npz_of_grey_faces_is_resized_and_split_by_person(tmp_path):
    people = np.repeat(np.arange(5), 10)
    pixels = np.broadcast_to((people * 40).astype(np.uint8)[:, None, None], (50, 112, 92))
    np.savez(tmp_path / "orl_faces.npz", x=pixels, y=people.astype(np.uint8))
    data = Faces(root=str(tmp_path))
    assert (data.num_classes, data.in_channels, data.image_size) == (5, 1, (55, 47))
    data.setup()
    counts = {name: part.labels.bincount().tolist() for name, part in data.datasets.items()}
    assert counts == {"train": [6] * 5, "val": [1] * 5, "calibration": [1] * 5, "test": [2] * 5}
    batch = data.datasets["train"][list(range(30))]
    assert batch.image.shape == (30, 1, 55, 47)
    assert batch.image[:, 0, 20, 20].tolist() == (batch.label * 40).tolist()


def test_variants_of_a_face_keep_its_person_and_leave_the_other_splits(tmp_path):
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "orl_faces.npz", x=rng.integers(0, 200, (40, 56, 46), dtype=np.uint8), y=people)
    plain, varied, again, other = (
        Faces(root=str(tmp_path), variants=variants, seed=seed) for variants, seed in ((1, 0), (3, 0), (3, 0), (3, 1))
    )
    for data in (plain, varied, again, other):
        data.setup()
        data.setup()
    one, three = plain.datasets["train"], varied.datasets["train"]
    count = len(one)
    assert len(three) == 3 * count
    assert three.labels.tolist() == 3 * one.labels.tolist()
    assert torch.equal(three.images[:count], one.images)
    changed = (three.images[count:].view(2, count, -1) != one.images.view(1, count, -1)).float().mean(dim=2)
    assert changed.min() > 0.5
    brightness = three.images[count:].float().mean(dim=(1, 2, 3)) / one.images.float().mean(dim=(1, 2, 3)).repeat(2)
    assert 0.75 < brightness.min() < 0.95 < 1.05 < brightness.max() < 1.25
    assert torch.equal(three.images, again.datasets["train"].images)
    assert not torch.equal(three.images[count:], other.datasets["train"].images[count:])
    for split in ("val", "test", "calibration"):
        assert torch.equal(varied.datasets[split].images, plain.datasets[split].images)


def write_people(root, people=("ann", "bob"), pictures=8):
    for label, person in enumerate(people):
        (root / "people" / person / "video").mkdir(parents=True)
        for i in range(pictures):
            picture = Image.new("RGB", (60, 80), (100 * label, 255, i))
            picture.save(root / "people" / person / "video" / f"{i}.png")


@pytest.mark.parametrize("channels", [None, 1])
def test_a_folder_of_people_is_read(tmp_path, channels):
    write_people(tmp_path)
    data = Faces(root=str(tmp_path), path="people", channels=channels, val_size=0, calibration_size=0, test_size=4)
    data.setup()
    assert data.class_names == ["ann", "bob"]
    assert data.datasets["test"].labels.bincount().tolist() == [2, 2]
    batch = data.datasets["train"][[0, 11]]
    assert batch.image.shape == (2, channels or 3, 55, 47)
    if channels is None:
        assert batch.image[:, 0, 9, 9].tolist() == (batch.label * 100).tolist()


def test_an_unreadable_picture_is_named(tmp_path):
    write_people(tmp_path)
    (tmp_path / "people" / "bob" / "video" / "3.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cannot read the picture .*bob/video/3.png: .*replace or remove"):
        Faces(root=str(tmp_path), path="people").setup()


def test_mistakes_are_reported_at_construction(tmp_path):
    write_people(tmp_path)
    with pytest.raises(InputError, match="variants of Faces must be at least 1, got 0"):
        Faces(root=str(tmp_path), path="people", variants=0)
    with pytest.raises(InputError, match=r"orl_faces.npz does not exist"):
        Faces(root=str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no folders"):
        Faces(root=str(tmp_path), path="empty")
    np.savez(tmp_path / "flat.npz", x=np.zeros((4, 9), dtype=np.uint8), y=np.arange(4))
    with pytest.raises(InputError, match=r"x must have the shape .* got \[4, 9\]"):
        Faces(root=str(tmp_path), path="flat.npz")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    with pytest.raises(InputError, match="has no array 'y'; it holds pictures"):
        Faces(root=str(tmp_path), path="other.npz")
