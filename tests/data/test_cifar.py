import hashlib
import pickle

import numpy as np
import pytest
from torchvision import datasets

from lightning_adv.data import CIFAR10, CIFAR100
from lightning_adv.errors import InputError


def write(path, content):
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_set(root, official, monkeypatch, label_key, classes):
    """A small set in the official layout, whose sums torchvision is told to expect."""
    folder = root / official.base_folder
    folder.mkdir()
    for group in ("train_list", "test_list"):
        entries = []
        for number, (name, _) in enumerate(getattr(official, group)):
            pixels = np.zeros((20, 3072), dtype=np.uint8)
            pixels[:, 1024:2048] = 20 * number + np.arange(20)[:, None]  # the green plane
            entries.append([name, write(folder / name, {"data": pixels, label_key: list(np.arange(20) % classes)})])
        monkeypatch.setattr(official, group, entries)
    names = [f"class {i}" for i in range(classes)]
    meta = official.meta | {"md5": write(folder / official.meta["filename"], {official.meta["key"]: names})}
    monkeypatch.setattr(official, "meta", meta)
    return folder


def test_cifar10_is_read_in_the_right_layout(tmp_path, monkeypatch):
    write_set(tmp_path, datasets.CIFAR10, monkeypatch, "labels", 10)
    data = CIFAR10(root=str(tmp_path), val_size=10, calibration_size=10)
    data.setup()
    assert [len(data.datasets[name]) for name in ("train", "val", "calibration", "test")] == [80, 10, 10, 20]
    batch = data.datasets["train"][[0, 40, 79]]
    assert batch.image.shape == (3, 3, 32, 32)
    assert batch.image[:, 1, 5, 7].tolist() == batch.index.tolist()
    assert batch.image[:, 0].sum() == batch.image[:, 2].sum() == 0
    assert batch.label.tolist() == (batch.index % 20 % 10).tolist()


def test_cifar100_has_fine_labels(tmp_path, monkeypatch):
    write_set(tmp_path, datasets.CIFAR100, monkeypatch, "fine_labels", 100)
    data = CIFAR100(root=str(tmp_path), val_size=2, calibration_size=2)
    data.setup()
    assert sorted(data.datasets["test"].labels.tolist()) == list(range(20))
    assert len(set(data.class_names)) == data.num_classes == 100


def test_a_missing_folder_and_a_missing_file_are_named_with_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"cifar-10-batches-py does not exist; .*cifar-10-python.tar.gz; .*download=true"
    ):
        CIFAR10(root=str(tmp_path)).setup()
    folder = write_set(tmp_path, datasets.CIFAR10, monkeypatch, "labels", 10)
    (folder / "data_batch_4").unlink()
    with pytest.raises(InputError, match="data_batch_4 does not exist"):
        CIFAR10(root=str(tmp_path)).setup()


def test_a_pickle_that_is_not_the_official_one_is_never_opened(tmp_path, monkeypatch):
    folder = write_set(tmp_path, datasets.CIFAR10, monkeypatch, "labels", 10)
    ran = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return (ran.touch, ())

    (folder / "test_batch").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match=r"test_batch is corrupt.*its md5 is not"):
        CIFAR10(root=str(tmp_path)).setup()
    assert not ran.exists()
