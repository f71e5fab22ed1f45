import numpy as np
import pytest
from PIL import Image

from lightning_adv.data import GTSRB
from lightning_adv.errors import InputError


def write_npz(root, tracks=10, frames=3):
    """Three classes of ``tracks`` signs each, filmed in ``frames`` pictures; red is the class, green the track."""
    label, track = (grid.ravel() for grid in np.mgrid[0:3, 0:tracks, 0:frames][:2])
    pixels = np.zeros((len(label), 32, 32, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = label[:, None, None], track[:, None, None]
    arrays = {"x_train": pixels, "y_train": label.astype(np.uint8), "track_train": track.astype(np.uint8)}
    np.savez(root / "gtsrb_32x32.npz", **arrays, x_test=pixels[::3], y_test=label[::3])


def write_official(root):
    training = root / "gtsrb" / "GTSRB" / "Training"
    test = root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    test.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for label in range(2):
        folder = training / f"{label:05d}"
        folder.mkdir(parents=True)
        for track in range(4):
            for frame in range(2):
                colour = (10 * label, 10 * track, 0)
                Image.new("RGB", (40 + frame, 45), colour).save(folder / f"{track:05d}_{frame:05d}.ppm")
        Image.new("RGB", (50, 50), (10 * label, 0, 200)).save(test / f"{label:05d}.ppm")
        rows.append(f"{label:05d}.ppm;50;50;5;5;45;45;{label}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows))


def test_no_physical_sign_is_in_two_splits(tmp_path):
    write_npz(tmp_path)
    data = GTSRB(root=str(tmp_path), val_size=0.2, calibration_size=0.2)
    data.setup()
    signs = {}
    for name in ("train", "val", "calibration"):
        batch = data.datasets[name][list(range(len(data.datasets[name])))]
        assert batch.image[:, 0, 0, 0].tolist() == batch.label.tolist()
        signs[name] = set(zip(batch.label.tolist(), batch.image[:, 1, 0, 0].tolist(), strict=True))
    assert [len(signs[name]) for name in ("train", "val", "calibration")] == [18, 6, 6]
    assert len(set.union(*signs.values())) == 30
    assert sum(len(data.datasets[name]) for name in signs) == 90


def test_the_official_folders_are_resized_once(tmp_path):
    write_official(tmp_path)
    data = GTSRB(root=str(tmp_path), val_size=4, calibration_size=4)
    data.prepare_data()
    assert (tmp_path / "gtsrb_32x32.npz").exists()
    (tmp_path / "gtsrb" / "GT-final_test.csv").unlink()
    data.prepare_data()
    data.setup()
    test = data.datasets["test"][[0, 1]]
    assert test.image.shape == (2, 3, 32, 32)
    assert sorted(test.image[:, 0, 3, 3].tolist()) == [0, 10]
    assert test.image[:, 2].unique().tolist() == [200]
    assert sum(len(data.datasets[name]) for name in ("train", "val", "calibration")) == 16
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("npz")] == ["gtsrb_32x32.npz"]


def test_the_official_folders_are_read_without_preparation_too(tmp_path):
    write_official(tmp_path)
    data = GTSRB(root=str(tmp_path), val_size=0, calibration_size=0)
    data.setup()
    assert len(data.datasets["train"]) == 16


def test_missing_data_name_both_places(tmp_path):
    with pytest.raises(InputError, match=r"gtsrb/GTSRB/Training does not exist; .*gtsrb_32x32.npz; .*download=true"):
        GTSRB(root=str(tmp_path)).setup()


def test_a_corrupt_file_is_named(tmp_path):
    (tmp_path / "gtsrb_32x32.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"gtsrb_32x32.npz is corrupt"):
        GTSRB(root=str(tmp_path)).setup()


def test_there_are_43_classes_with_names():
    assert len(set(GTSRB.class_names)) == GTSRB.num_classes == 43
    assert GTSRB.class_names[14] == "stop"
