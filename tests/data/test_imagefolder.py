import json

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


TENCH, COCK = "n01440764", "n01514668"  # classes 0 and 7 of ImageNet
NO_TRAIN = pytest.mark.filterwarnings("ignore:.*has no train/")


def all_reported(root, **options):
    return folder_data(root, val_size=None, calibration_size=None, **options)


def reported(data):
    """Folder and label of every picture that is reported on."""
    data.setup("test")
    test = data.datasets["test"]
    folders = [test.file_of(int(position)).parent.name for position in test.index]
    return list(zip(folders, test.labels.tolist(), strict=True))


@NO_TRAIN
@pytest.mark.parametrize("split", ["val", "test", "."])
def test_nineteen_classes_of_a_thousand_need_their_pictures_and_a_list(tmp_path, split):
    write_folders(tmp_path, (split,), classes=(COCK, TENCH), count=2)
    data = all_reported(tmp_path, class_list="imagenet")
    assert (data.num_classes, data.class_names[0], data.class_names[7]) == (1000, "tench", "cock")
    assert sorted(reported(data)) == [(TENCH, 0)] * 2 + [(COCK, 7)] * 2
    assert list(data.datasets) == ["test"]
    assert len(set(data.class_names)) == 1000  # two classes are called crane


def test_what_is_held_out_of_a_folder_without_training_images_is_said_and_not_reported_on(tmp_path):
    write_folders(tmp_path, ("val",), count=10)
    data = folder_data(tmp_path, val_size=4, calibration_size=6)
    with pytest.warns(
        UserWarning, match=r"has no train/: the 20 pictures of .*val .* val_size=4 and calibration_size=6"
    ):
        data.setup("test")
    assert {name: len(part) for name, part in data.datasets.items()} == {"test": 10, "val": 4, "calibration": 6}
    assert sorted(torch.cat([part.index for part in data.datasets.values()]).tolist()) == list(range(20))
    with pytest.raises(InputError, match=r"^[^\n]*train split: there are no images; nothing can be trained$"):
        data.train_dataloader()


@NO_TRAIN
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wnids.txt", "n3\nn1\nn2"),
        ("words.txt", "\ufeffn3 the third, or so\n\nn1 the first\nn2 the second\n"),
        ("tabs.txt", "n3\tthe third, or so\nn1\tthe first\nn2\tthe second"),
        (
            "index.json",
            json.dumps({"1": ["n1", "the first"], "0": ["n3", "the third, or so"], "2": ["n2", "the second"]}),
        ),
        ("ids.json", json.dumps({"n1": 1, "n2": 2, "n3": 0})),
        ("list.json", json.dumps(["n3", "n1", "n2"])),
        ("named.json", json.dumps({"n3": "the third, or so", "n1": "the first", "n2": "the second"})),
    ],
)
def test_a_list_of_classes_is_read_in_every_form_of_the_field(tmp_path, name, text):
    write_folders(tmp_path, ("val",), classes=("n1", "n2"), count=1)
    (tmp_path / name).write_text(text)
    data = all_reported(tmp_path, class_list=str(tmp_path / name))
    assert data.class_names in (["n3", "n1", "n2"], ["the third, or so", "the first", "the second"])
    assert (data.class_names[0] == "n3") == ("the first" not in text)
    assert sorted(reported(data)) == [("n1", 1), ("n2", 2)]


@NO_TRAIN
def test_a_class_folder_may_have_blanks_in_its_name(tmp_path):
    write_folders(tmp_path, ("val",), classes=("great white shark",), count=1)
    (tmp_path / "names.txt").write_text("tench\ngreat white shark\n")
    data = all_reported(tmp_path, class_list=str(tmp_path / "names.txt"))
    assert reported(data) == [("great white shark", 1)]


@NO_TRAIN
def test_a_list_of_some_classes_says_which_labels_they_have(tmp_path):
    write_folders(tmp_path, ("val",), classes=(COCK,), count=1)
    (tmp_path / "some.json").write_text(json.dumps({COCK: 7}))
    data = all_reported(tmp_path, class_list=str(tmp_path / "some.json"), num_classes=9)
    assert reported(data) == [(COCK, 7)]
    assert data.class_names == ["0", "1", "2", "3", "4", "5", "6", COCK, "8"]


@pytest.mark.parametrize(
    ("class_list", "num_classes", "message"),
    [
        ("imagnet", None, "class_list imagnet: there is no such file; expected 'imagenet', another list"),
        (["cat", "dog", "cat"], None, "class_list names cat twice, with the labels 0 and 2"),
        ('{"0": ["cat", 1]}', None, r"holds .* which names no class"),
        ('{"cat": 0, "dog": 0}', None, "gives the label 0 twice, to cat and dog"),
        ('{"cat": 0, "dog": 5}', None, "goes up to label 5 and names 2 classes; give num_classes"),
        ('{"cat": 0, "dog": 5}', 5, "goes from label 0 to 5, which num_classes=5 does not allow"),
        ("[1, 2]", None, "holds '1', which names no class"),
        ("[[[", None, "is corrupt or not what it should be"),
        ("", None, "names no class; expected one folder a line"),
        ([TENCH, COCK], 1000, "names 2 of 1000 classes and not which label each has; give the whole list"),
        (None, 1000, "has 2 class folders for num_classes=1000; give class_list"),
    ],
)
def test_a_list_that_leaves_a_label_open_is_refused_in_one_line(tmp_path, class_list, num_classes, message):
    write_folders(tmp_path, ("val",), count=1)
    if isinstance(class_list, str) and class_list != "imagnet":
        (tmp_path / "list").write_text(class_list)
        class_list = str(tmp_path / "list")
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        all_reported(tmp_path, class_list=class_list, num_classes=num_classes)


@NO_TRAIN
def test_a_folder_that_the_list_does_not_name_is_named(tmp_path):
    write_folders(tmp_path, ("val",), classes=("cat", "cow", "dog"), count=1)
    (tmp_path / "val" / "empty").mkdir()
    data = all_reported(tmp_path, class_list=["dog", "cat"])
    with pytest.raises(
        InputError, match=r"^[^\n]*val: 1 class folders are not in the class list, cow the first[^\n]*$"
    ):
        data.setup("test")


def test_training_asks_for_pictures_of_every_class(tmp_path):
    write_folders(tmp_path, count=3)
    sizes = {"val_size": 1, "calibration_size": 1}
    folder_data(tmp_path, class_list=["dog", "cat"], **sizes).setup("fit")
    for listed, num_classes in ((["dog", "cat", "cow"], None), (["dog", "cat"], 3)):
        data = folder_data(tmp_path, class_list=listed, num_classes=num_classes, **sizes)
        assert len(reported(data)) == 6
        with pytest.raises(
            InputError, match=r"^[^\n]*train: 1 of 3 classes(, cow the first,)? have no pictures[^\n]*$"
        ):
            data.setup("fit")


@NO_TRAIN
def test_training_asks_for_a_folder_to_train_on(tmp_path):
    write_folders(tmp_path, ("val",), count=1)
    with pytest.raises(InputError, match=r"has no train/, so there is nothing to train on"):
        all_reported(tmp_path).setup("fit")


def test_an_empty_class_folder_is_named_where_no_list_says_that_it_may_be(tmp_path):
    write_folders(tmp_path, count=3)
    (tmp_path / "train" / "cow").mkdir()
    (tmp_path / "val" / "cow").mkdir()
    with pytest.raises(InputError, match=r"train: 1 class folders hold no pictures, cow the first"):
        folder_data(tmp_path).setup()


def test_folders_without_pictures_are_no_classes(tmp_path):
    (tmp_path / "mnist" / "raw").mkdir(parents=True)
    with pytest.raises(InputError, match=r"train does not exist; expected folders of pictures"):
        folder_data(tmp_path)


@NO_TRAIN
def test_a_list_of_pictures_is_what_is_reported_on_in_its_order(tmp_path):
    write_folders(tmp_path, ("val",), count=4)
    for kind in ("cat", "dog"):
        (tmp_path / "val" / kind / "3.png").rename(tmp_path / "val" / kind / f"last {kind}.png")
    (tmp_path / "ids.txt").write_text("dog/2.png\ncat/0.png\n\nlast dog.png\n/set/val/cat/1.png\ncat/0.png\n")
    data = all_reported(tmp_path, only=str(tmp_path / "ids.txt"))
    assert reported(data) == [("dog", 1), ("cat", 0), ("dog", 1), ("cat", 0)]
    names = [data.datasets["test"].file_of(position).name for position in range(4)]
    assert names == ["2.png", "0.png", "last dog.png", "1.png"]
    same, other = (all_reported(tmp_path, only=only) for only in (["1.png", *names], names[1:]))
    assert data.known_as == same.known_as != other.known_as


@NO_TRAIN
def test_listed_pictures_that_are_missing_are_counted(tmp_path):
    write_folders(tmp_path, ("val",), count=2)
    data = all_reported(tmp_path, only=["cat/0.png", "cow/7.png", "dog/8.png"])
    with pytest.warns(
        UserWarning, match=r"lacks 2 of the 3 pictures listed \(only\), cow/7.png the first: .* the 1 that"
    ):
        data.setup("test")
    with pytest.raises(InputError, match=r"lacks 1 of the 1 pictures listed"):
        all_reported(tmp_path, only=["cow/7.png"]).setup("test")
    with pytest.raises(InputError, match=r"0.png of the list .* may be .*cat/0.png or .*dog/0.png; say <class>/<file>"):
        all_reported(tmp_path, only=["0.png"]).setup("test")
    with pytest.raises(InputError, match=r"there is no such file"):
        all_reported(tmp_path, only="cow.txt")
    with pytest.raises(InputError, match=r"is empty"):
        all_reported(tmp_path, only=[])


@NO_TRAIN
def test_pictures_of_one_class_can_be_reported_on(tmp_path):
    write_folders(tmp_path, ("val",), count=2)
    data = all_reported(tmp_path, class_list=["cow", "cat", "dog"], only=["dog/0.png", "dog/1.png"])
    assert reported(data) == [("dog", 2)] * 2
