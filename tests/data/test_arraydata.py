import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lightning_adv.data import ArrayData
from lightning_adv.errors import InputError


def arrays(count=30, shape=(3, 8, 6), dtype=np.uint8):
    number = np.arange(count).reshape(-1, *(1 for _ in shape))
    return np.broadcast_to(number, (count, *shape)).astype(dtype), np.arange(count) % 3


def save(path, images, labels, **more):
    if path.suffix == ".npz":
        np.savez(path, images=images, labels=labels, **more)
    else:
        tensors = {"images": images, "labels": labels}
        save_file({key: torch.from_numpy(value.copy()) for key, value in tensors.items()}, path)
    return path.name


def array_data(root, train, **options):
    return ArrayData(train, root=str(root), **({"val_size": 3, "calibration_size": 3} | options))


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_one_file_gives_all_four_splits(tmp_path, suffix):
    data = array_data(tmp_path, save(tmp_path / f"mine.{suffix}", *arrays()), test_size=6)
    assert (data.num_classes, data.in_channels, data.image_size) == (3, 3, (8, 6))
    assert (len(data.mean), len(data.std), data.class_names) == (3, 3, ["0", "1", "2"])
    data.setup()
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 18,
        "val": 3,
        "calibration": 3,
        "test": 6,
    }
    positions = []
    for part in data.datasets.values():
        batch = part[list(range(len(part)))]
        assert batch.image[:, 0, 0, 0].tolist() == batch.index.tolist()
        positions += batch.index.tolist()
    assert sorted(positions) == list(range(30))


def test_given_files_are_not_cut(tmp_path):
    names = [save(tmp_path / f"{name}.npz", *arrays(count)) for name, count in zip("abcd", (30, 9, 6, 3), strict=True)]
    data = array_data(tmp_path, names[0], test=names[1], val=names[2], calibration=names[3])
    data.setup()
    assert [len(data.datasets[name]) for name in ("train", "test", "val", "calibration")] == [30, 9, 6, 3]


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((3, 8, 6), "auto", (3, 8, 6)),
        ((8, 6, 3), "auto", (3, 8, 6)),
        ((8, 6), "auto", (1, 8, 6)),
        ((8, 6, 1), "auto", (1, 8, 6)),
        ((3, 8, 3), "NCHW", (3, 8, 3)),
        ((4, 8, 6), "NCHW", (4, 8, 6)),
        ((8, 6, 13), "NHWC", (13, 8, 6)),
        ((3, 8, 3), "NHWC", (3, 3, 8)),
    ],
)
def test_layouts_become_channels_first(tmp_path, shape, layout, expected):
    pixels = np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)
    data = array_data(tmp_path, save(tmp_path / "mine.npz", pixels, arrays()[1]), layout=layout)
    data.setup()
    assert (data.in_channels, *data.image_size) == expected
    batch = data.datasets["train"][[2]]
    stored = pixels[int(batch.index[0])].reshape(shape if len(shape) == 3 else (1, *shape))
    channels_first = stored if stored.shape == expected and layout != "NHWC" else stored.transpose(2, 0, 1)
    assert np.array_equal(batch.image[0].numpy(), channels_first)


@pytest.mark.parametrize("bands", [2, 4, 13])
@pytest.mark.parametrize("first", [True, False])
def test_a_layout_that_the_shape_does_not_tell_is_asked_for(tmp_path, bands, first):
    shape = (bands, 8, 6) if first else (8, 6, bands)
    name = save(tmp_path / "mine.npz", *arrays(shape=shape))
    with pytest.raises(InputError, match=r"^[^\n]*mine.npz: images of shape .* say layout: NCHW or NHWC$"):
        array_data(tmp_path, name)
    data = array_data(tmp_path, name, layout="NCHW" if first else "NHWC")
    assert (data.in_channels, *data.image_size) == (bands, 8, 6)


def test_a_shape_that_tells_two_layouts_is_asked_about_too(tmp_path):
    with pytest.raises(InputError, match="say layout"):
        array_data(tmp_path, save(tmp_path / "mine.npz", *arrays(shape=(3, 8, 3))))


def test_one_stray_label_does_not_build_a_million_outputs(tmp_path):
    images, labels = arrays()
    labels[7] = 1_000_000
    name = save(tmp_path / "mine.npz", images, labels)
    with pytest.raises(
        InputError, match=r"up to 1,000,000, and 999,997 of these .* no image, 3 the first; .*num_classes"
    ):
        array_data(tmp_path, name)


def test_classes_without_an_image_are_there_where_they_are_declared(tmp_path):
    images, labels = arrays()
    name = save(tmp_path / "mine.npz", images, labels * 2)
    with pytest.raises(InputError, match="2 of these 5 classes have no image, 1 the first"):
        array_data(tmp_path, name)
    assert array_data(tmp_path, name, num_classes=9).num_classes == 9


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.uint64])
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_labels_of_any_integer_type_are_the_same_labels(tmp_path, dtype, suffix):
    images, labels = arrays()
    data = array_data(tmp_path, save(tmp_path / f"mine.{suffix}", images, labels.astype(dtype)))
    data.setup()
    train = data.datasets["train"]
    assert train.labels.dtype == torch.int64
    assert torch.equal(train.labels, train.index % 3)


def test_float_pixels_stay_as_they_are(tmp_path):
    images, labels = arrays(dtype=np.float64)
    data = array_data(tmp_path, save(tmp_path / "mine.npz", images / 30, labels.astype(np.uint16)))
    data.setup()
    batch = data.on_after_batch_transfer(data.datasets["train"][[4]], 0)
    assert batch.image.dtype == torch.float32
    assert float(batch.image[0, 0, 0, 0]) == pytest.approx(int(batch.index[0]) / 30)


def test_pickled_objects_are_refused(tmp_path):
    labels = np.array([{"a": 1}] * 30, dtype=object)
    np.savez(tmp_path / "mine.npz", images=arrays()[0], labels=labels)
    with pytest.raises(InputError, match=r"mine.npz is corrupt or not what it should be.*plain arrays"):
        array_data(tmp_path, "mine.npz")


def mistaken(tmp_path, images, labels, **options):
    array_data(tmp_path, save(tmp_path / "mine.npz", images, labels), **options).setup()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x, y: (x, y[:-1]), {}, r"mine.npz: images of shape \[30, 3, 8, 6\] and labels of shape \[29\]"),
        (lambda x, y: (x, y + 0.5), {}, "labels must be integers"),
        (lambda x, y: (x.astype(np.int32), y), {}, r"mine.npz: images must be uint8, or floats"),
        (lambda x, y: (x.astype(np.uint16), y), {}, r"divide them by the value of white \(65535 for 16 bits\)"),
        (lambda x, y: (x, y > 0), {}, "labels must be integers"),
        (lambda x, y: (x, y), {"num_classes": -1}, "num_classes must be at least 2"),
        (lambda x, y: (x.astype(float), y), {}, "divide by 255"),
        (lambda x, y: (np.where(x == 5, np.nan, 0.5), y), {}, "hold NaN or infinite pixels.*first is image"),
        (lambda x, y: (x, y - 1), {}, r"label -1 .* is outside \[0, 2\)"),
        (lambda x, y: (x, y), {"num_classes": 2}, r"label 2 .* is outside \[0, 2\)"),
        (lambda x, y: (x, y * 0), {}, "two classes or more"),
        (lambda x, y: (x[:0], y[:0]), {}, "there are no images"),
        (lambda x, y: (x, y), {"images_key": "x"}, "has no array 'x'; it holds images, labels; set images_key"),
        (lambda x, y: (x, y), {"mean": [0.5]}, "mean needs a number for each of 3 channels"),
        (lambda x, y: (x, y), {"class_names": ["a"]}, "1 class_names for 3 classes"),
        (lambda x, y: (x, y), {"test": "no.npz"}, r"no.npz does not exist; .*relative to root"),
        (lambda x, y: (x, y.astype(str)), {}, "'labels' must hold numbers"),
    ],
)
def test_mistakes_are_explained(tmp_path, change, options, message):
    with pytest.raises(InputError, match=message):
        mistaken(tmp_path, *change(*arrays()), **options)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_corrupt_file_is_named(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    save(path, *arrays())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=f"mine.{suffix} is corrupt"):
        array_data(tmp_path, path.name)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "mine.pkl").touch()
    with pytest.raises(InputError, match=r"only .npz and .safetensors files are read"):
        array_data(tmp_path, "mine.pkl")
