import numpy as np
import pytest
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
    with pytest.raises(InputError, match=r"bob/video/3.png is corrupt"):
        Faces(root=str(tmp_path), path="people").setup()


def test_mistakes_are_reported_at_construction(tmp_path):
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
