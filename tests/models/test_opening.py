"""Folders that say what network they hold: the library's own answers, and nothing of a stranger's run or followed."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    MobileViTImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from experiments.open_models.hub import save_weights, timm_folder
from lightning_adv.errors import InputError
from lightning_adv.models import Statistics, open_model, read_state_dict
from lightning_adv.models.folders import check_order_of_classes

MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
OF_THE_DATA = {"num_classes": 4, "in_channels": 3, "image_size": (32, 32)}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_resnet", num_classes=4).eval()


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=4)).eval()


def transformers_folder(folder: Path, net: nn.Module, processor: object = None) -> Path:
    net.config.save_pretrained(folder)
    save_weights(folder, net.state_dict(), "safetensors")
    (processor or ViTImageProcessor(image_mean=MEAN, image_std=STD)).save_pretrained(folder)
    return folder


def pictures() -> Tensor:
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def prepared(folder: Path) -> Tensor:
    """The pictures as the folder's own preprocessor hands them to its network."""
    prepare = AutoImageProcessor.from_pretrained(folder)
    same_size = {"do_resize": False, "do_center_crop": False}
    return prepare(list(pictures().numpy()), return_tensors="pt", input_data_format="channels_first", **same_size)[
        "pixel_values"
    ]


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def normalised(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)


def test_a_folder_of_timm_may_be_opened_by_the_name_of_its_network(net, tmp_path):
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", mean=MEAN, std=STD, input_size=[3, 32, 32])
    of_data = Statistics((0.5,) * 3, (0.5,) * 3, "the data", assumed=True)
    model = open_model(folder, backbone="test_resnet", statistics=of_data, **OF_THE_DATA).eval()
    x = pictures() / 255
    assert (model(x) - net(normalised(x))).abs().max() < 1e-5


def test_a_folder_of_an_older_timm_tells_its_statistics_at_the_top(net, tmp_path):
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", input_size=[3, 32, 32])
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**content, **content.pop("pretrained_cfg"), "mean": MEAN, "std": STD})
    )
    x = pictures() / 255
    assert (open_model(folder, **OF_THE_DATA).eval()(x) - net(normalised(x))).abs().max() < 1e-5


def test_images_of_another_size_than_the_networks_are_told(net, tmp_path):
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", mean=MEAN, std=STD)
    with pytest.warns(
        UserWarning, match="3 x 224 x 224 pixels, interpolation bicubic, crop_pct 0.9; .* 32 x 32 pixels"
    ):
        open_model(folder, **OF_THE_DATA)


def test_bare_weights_in_a_folder_need_the_name_of_their_network(net, tmp_path):
    save_weights(tmp_path, net.state_dict(), "safetensors")
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_model(tmp_path, **OF_THE_DATA)


def test_a_folder_of_transformers_answers_as_the_library_on_images_of_0_to_1(vit, tmp_path):
    folder = transformers_folder(tmp_path / "hub", vit)
    theirs = AutoModelForImageClassification.from_pretrained(folder).eval()
    ours = open_model(folder, **OF_THE_DATA).eval()
    assert (ours(pictures() / 255) - theirs(prepared(folder)).logits).abs().max() < 1e-5
    assert ours.num_classes == 4


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(do_normalize=False),
        ViTImageProcessor(image_mean=MEAN, image_std=STD, rescale_factor=1 / 127.5),
        ViTImageProcessor(image_mean=[20.0] * 3, image_std=[60.0] * 3, do_rescale=False),
        MobileViTImageProcessor(),
    ],
    ids=["no normalisation", "another scale", "of 0 to 255", "blue first"],
)
def test_what_a_preprocessor_does_to_colours_becomes_the_first_layer(processor, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=4)
        theirs = ResNetForImageClassification(config).eval()
    folder = transformers_folder(tmp_path / "hub", theirs, processor=processor)
    ours = open_model(folder, **OF_THE_DATA).eval()
    assert (ours(pictures() / 255) - theirs(prepared(folder)).logits).abs().max() < 1e-4


def test_a_folder_of_transformers_without_a_preprocessor_takes_the_given_normalisation(vit, tmp_path):
    folder = transformers_folder(tmp_path / "hub", vit)
    (folder / "preprocessor_config.json").unlink()
    x = pictures() / 255
    ours = open_model(folder, mean=MEAN, std=STD, **OF_THE_DATA).eval()
    assert (ours(x) - vit(normalised(x)).logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModelForImageClassification": "evil.Net"}}),
        ("config.json", {"vision_config": {"auto_map": {"AutoConfig": "them/evil--evil.Config"}}}),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}),
        ("config.json", {"use_pretrained_backbone": True}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.Processor"}}),
    ],
)
def test_settings_that_bring_code_are_refused_by_name(file, settings, vit, tmp_path):
    folder = transformers_folder(tmp_path / "hub", vit)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    change(folder / file, **settings)
    with pytest.raises(InputError, match=r"is refused: its (auto_map|quantization_config|use_pretrained_backbone) "):
        open_model(folder, **OF_THE_DATA)
    assert not (tmp_path / "mark").exists()


def test_programs_of_the_hub_that_compute_attention_are_not_asked_for(vit, tmp_path):
    folder = transformers_folder(tmp_path / "hub", vit)
    change(folder / "config.json", _attn_implementation="them/kernel", attn_implementation="them/kernel")
    assert open_model(folder, **OF_THE_DATA).net.net.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model_type": "bert"}, "no image classifier"),
        ({"model_type": "os.system"}, "names neither an architecture of timm nor a model_type"),
        ({"model_type": None}, "names neither"),
        ({"hidden_size": 15}, "cannot be built by transformers"),
        ({"num_hidden_layers": 2}, "weights are missing"),
        ({"num_hidden_layers": 0}, "weights are unexpected"),
        ({"id2label": {"0": "cat", "1": "dog"}}, "fit|2 classes"),
    ],
)
def test_settings_that_do_not_fit_are_a_line(settings, told, vit, tmp_path):
    folder = transformers_folder(tmp_path / "hub", vit)
    change(folder / "config.json", **settings)
    with pytest.raises(InputError, match=told) as refusal:
        open_model(folder, **OF_THE_DATA)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "place", ["../outside.safetensors", "/{tmp}/outside.safetensors", "..", "", "a/b.safetensors", 3]
)
def test_an_index_leads_nowhere_but_into_its_folder(place, net, tmp_path):
    save_file({"fc.bias": torch.zeros(4)}, tmp_path / "outside.safetensors")
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", weights="sharded safetensors")
    place = place.replace("/{tmp}", str(tmp_path)) if isinstance(place, str) else place
    index = folder / "model.safetensors.index.json"
    change(index, weight_map={**json.loads(index.read_text())["weight_map"], "fc.bias": place})
    with pytest.raises(InputError, match=r"is refused: it looks for 'fc\.bias' in .*, which is no file of its folder"):
        read_state_dict(folder)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ("{}", "has no weight_map"),
        ("[1]", "must hold a dictionary"),
        ("not json", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"weight_map": {"a": "model-00003-of-00002.safetensors"}}', "files that are not there"),
        (
            '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
            "lacks weights that the index of its folder names",
        ),
    ],
)
def test_a_damaged_index_is_a_line(index, told, net, tmp_path):
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", weights="sharded safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=told):
        read_state_dict(folder)


def test_a_bin_with_code_in_a_folder_is_refused(net, tmp_path):
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", weights="bin")
    torch.save(net, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="is a whole timm"):
        open_model(folder, **OF_THE_DATA)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pretrained_cfg": {"mean": [0.1, "0.2", 0.3]}}, "mean must be a list of numbers"),
        ({"pretrained_cfg": {"std": [0.1, float("nan"), 0.3]}}, "std must be a list of numbers"),
        ({"num_classes": 5}, "has 5 classes, the data 4"),
        ({"architecture": "os.system"}, "no backbone is called 'os.system'"),
        ({"model_args": {"cache_dir": "/tmp"}}, "must not hold cache_dir"),
    ],
)
def test_wrong_settings_of_timm_are_a_line(settings, told, net, tmp_path):
    folder = timm_folder(tmp_path / "hub", net, "test_resnet", mean=MEAN, std=STD)
    change(folder / "config.json", **settings)
    with pytest.raises(InputError, match=told):
        open_model(folder, **OF_THE_DATA)


@pytest.mark.parametrize("settings", [{"label_names": ["cat", "Ant"]}, {"id2label": {"1": "ant", "0": "cat"}}])
def test_data_that_number_the_classes_otherwise_than_the_network_are_refused(settings, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    check_order_of_classes(tmp_path, ["cat", "ant"])
    check_order_of_classes(tmp_path, ["cat", "dog"])
    with pytest.raises(InputError, match=r"class 0 is 'cat' there and 'ant' here; give the data a class_list"):
        check_order_of_classes(tmp_path, ["ant", "cat"])


@pytest.mark.parametrize("content", ["{}", '{"label_names": 3}', '{"id2label": {"a": "b"}}', '{"id2label": [1]}', None])
def test_a_folder_that_does_not_name_its_classes_fits_any_data(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    check_order_of_classes(tmp_path, ["ant", "cat"])
