import struct

import numpy as np
import pytest
import torch

from lightning_adv.data import MNIST, FashionMNIST, MNISTSubset
from lightning_adv.errors import InputError


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_set(root, name, train=40, test=20):
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = np.arange(count)[:, None, None] + np.zeros((1, 28, 28))
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return raw


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_idx_files_are_read(kind, tmp_path):
    write_set(tmp_path, kind.__name__)
    data = kind(root=str(tmp_path), val_size=10, calibration_size=10)
    data.prepare_data()
    data.setup()
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 20,
        "val": 10,
        "calibration": 10,
        "test": 20,
    }
    batch = data.datasets["test"][[3, 17]]
    assert batch.image.shape == (2, 1, 28, 28)
    assert batch.image[:, 0, 0, 0].tolist() == [3, 17]
    assert batch.label.tolist() == [3, 7]
    assert len(data.class_names) == data.num_classes == 10


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    raw = write_set(tmp_path, "MNIST")
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"MNIST/raw/t10k-labels-idx1-ubyte does not exist; .*--data.download=true"):
        MNIST(root=str(tmp_path)).setup()


@pytest.mark.parametrize("keep", [0, 3, 10, 500])
def test_a_cut_off_file_is_reported(tmp_path, keep):
    raw = write_set(tmp_path, "MNIST")
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"MNIST/raw/train-\* is corrupt"):
        MNIST(root=str(tmp_path)).setup()


def test_labels_that_do_not_match_the_images_are_reported(tmp_path):
    raw = write_set(tmp_path, "MNIST")
    write_idx(raw / "train-labels-idx1-ubyte", np.arange(39) % 10)
    with pytest.raises(InputError, match=r"MNIST/raw/train-\*.*40 images, 39 labels"):
        MNIST(root=str(tmp_path)).setup()


def test_the_subset_is_real_stratified_and_its_test_images_never_change():
    one, other = MNISTSubset(seed=0), MNISTSubset(seed=1)
    one.setup()
    other.setup()
    counts = {name: part.labels.bincount().tolist() for name, part in one.datasets.items()}
    assert counts == {"train": [300] * 10, "val": [50] * 10, "calibration": [50] * 10, "test": [100] * 10}
    assert torch.equal(one.datasets["test"].index, other.datasets["test"].index)
    assert set(one.datasets["val"].index.tolist()) != set(other.datasets["val"].index.tolist())
    parts = [set(part.index.tolist()) for part in one.datasets.values()]
    assert set.union(*parts) == set(range(5000))
    batch = one.on_after_batch_transfer(one.datasets["train"][list(range(3000))], 0)
    assert float(batch.image.mean()) == pytest.approx(one.mean[0], abs=0.01)
    assert float(batch.image.std()) == pytest.approx(one.std[0], abs=0.01)
