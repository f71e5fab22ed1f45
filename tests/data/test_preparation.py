import json

import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg
from torchvision.transforms.functional import pil_to_tensor

from lightning_adv.data import DataFacts
from lightning_adv.data.preparation import Preparation, prepared_for
from lightning_adv.errors import InputError
from tests.data.test_imagefolder import NO_TRAIN, all_reported, write_folders

LITE0 = "tf_efficientnet_lite0"


@NO_TRAIN
@pytest.mark.parametrize("network", [LITE0, "vit_base_patch16_224", "regnety_016.tv2_in1k"])
def test_pictures_that_match_a_network_are_those_that_timm_prepares_for_it(tmp_path, network):
    write_folders(tmp_path, ("val",), count=1, size=(300, 260))
    data = all_reported(tmp_path, match=network, image_size=None)
    data.setup("test")
    test = data.datasets["test"]
    config = resolve_data_config(pretrained_cfg=get_pretrained_cfg(network).to_dict())
    picture = Image.open(test.file_of(int(test.index[0])))
    expected = create_transform(**config, normalize=False)(picture)
    assert torch.equal(test[[0]].image[0], pil_to_tensor(expected) if isinstance(expected, Image.Image) else expected)
    assert (data.mean, data.std) == (tuple(config["mean"]), tuple(config["std"]))
    size = " x ".join(map(str, config["input_size"][1:]))
    assert DataFacts(data).preparation == f"{size} pixels, bicubic, center crop of {config['crop_pct']}"


def test_what_is_given_wins_and_is_said():
    with pytest.warns(
        UserWarning, match=r"^the data differ from what .*lite0 was trained with, .*: crop_pct 1.0 for 0.875$"
    ):
        found = prepared_for(LITE0, {"crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "image_size": (224, 224)})
    assert found == Preparation((224, 224), "bicubic", 1.0, "center", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_without_a_network_nothing_is_said_of_what_is_given():
    assert prepared_for(None, {"image_size": (8, 8), "crop_pct": None}) == Preparation((8, 8))


@pytest.mark.parametrize("nested", [True, False])
def test_a_folder_of_the_hub_tells_how_its_images_were_prepared(tmp_path, nested):
    told = {"input_size": [3, 96, 80], "crop_pct": 0.9, "interpolation": "lanczos", "mean": [0.1, 0.2, 0.3]}
    settings = {"architecture": "resnet18", "pretrained_cfg": told} if nested else {"architecture": "resnet18", **told}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = prepared_for(str(tmp_path), {})
    assert found == Preparation((96, 80), "lanczos", 0.9, "center", (0.1, 0.2, 0.3), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "does not tell how its images were prepared; give image_size"),
        ({"input_size": "large"}, "tells what makes no sense"),
        ({"input_size": [3, 8.5, 8]}, "image_size must be a height and a width"),
        ({"input_size": [3, 8, 8], "crop_pct": "all"}, "tells what makes no sense"),
        ({"input_size": [3, 8, 8], "interpolation": ["x"]}, "interpolation must be one of nearest"),
        ({"input_size": [3, 8, 8], "std": [0, 1, 1]}, "mean and std must be 3 numbers each"),
    ],
)
def test_a_folder_that_tells_nonsense_is_refused_in_one_line(tmp_path, told, message):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": told}))
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        prepared_for(str(tmp_path), {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interpolation": "bicubical"}, "interpolation must be one of"),
        ({"crop_pct": 1.5}, "crop_pct must lie in"),
        ({"crop_mode": "left"}, "crop_mode must be one of"),
        ({"mean": (0.5,)}, "mean and std must be 3 numbers each"),
        ({"image_size": (0, 8)}, "image_size must be a height and a width"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        prepared_for(None, given)


def test_a_network_that_timm_does_not_know_is_refused():
    with pytest.raises(InputError, match="match: preact_resnet18 does not tell"):
        prepared_for("preact_resnet18", {})
