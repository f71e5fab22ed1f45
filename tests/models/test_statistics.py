"""Whose normalisation: the user's, else the file's, else that of the tag's weights, else the data's; never silently."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models import NormalizedModel, create_model, statistics_of
from lightning_adv.modules import ClassifierModule

OF_DATA, OF_FILE = ((0.5,) * 3, (0.25,) * 3), ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
NET = {"num_classes": 4, "in_channels": 3, "image_size": (16, 16)}
TINY = {"backbone": "preact_resnet18", "backbone_options": {"width": 2}, **NET}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights that say nothing of their images."""
    torch.manual_seed(0)
    return create_model("preact_resnet18", backbone_options={"width": 2}, **NET).net.state_dict()


def rows(*names: str, factor: float = 1.0, shape: tuple[int, ...] = (3,)) -> dict[str, Tensor]:
    return {name: factor * torch.tensor(each).view(shape) for name, each in zip(names, OF_FILE, strict=True)}


def module(path, statistics: str = "assumed", figures=OF_DATA) -> tuple[NormalizedModel, list[str]]:
    """The backbone, and what was said."""
    mean, std = figures
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built = ClassifierModule(**TINY, mean=mean, std=std, statistics=statistics, weights=str(path))
    return built.backbone, [str(warning.message) for warning in caught]


def test_what_the_user_gives_must_be_what_the_file_says(tmp_path, state):
    torch.save(rows("mu", "sigma") | state, tmp_path / "weights.pt")
    model, _ = module(tmp_path / "weights.pt", "given", OF_FILE)
    assert statistics_of(model).mean == pytest.approx(OF_FILE[0])
    with pytest.raises(InputError, match=r"leave mean and std out to take the former, or give the same$"):
        module(tmp_path / "weights.pt", "given")


def test_figures_of_unknown_names_are_asked_about_and_left_out_once_answered(tmp_path, state):
    torch.save(rows("mu", "shift") | state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"it holds mu, shift: .*give them as model\.mean and model\.std"):
        module(tmp_path / "weights.pt")
    model, said = module(tmp_path / "weights.pt", "given", OF_FILE)
    assert statistics_of(model).mean == pytest.approx(OF_FILE[0])
    assert len(said) == 1
    assert "left out 2 entries that no image passes (mu, shift)" in said[0]


@pytest.mark.parametrize("surplus", [{"last.bias": (3,)}, {"a.weight": (3,), "b.weight": (3,), "c.weight": (3,)}])
def test_what_is_no_pair_of_figures_is_an_unknown_layer(tmp_path, state, surplus):
    torch.save({key: torch.rand(shape) for key, shape in surplus.items()} | state, tmp_path / "weights.pt")
    for statistics in ("assumed", "given"):
        with pytest.raises(InputError, match=f"{len(surplus)} are unknown to the model"):
            module(tmp_path / "weights.pt", statistics)


def test_a_file_that_says_nothing_is_never_loaded_without_a_word(tmp_path, state):
    torch.save(state, tmp_path / "weights.pt")
    model, said = module(tmp_path / "weights.pt")
    assert statistics_of(model).mean == OF_DATA[0]
    assert len(said) == 1
    assert r"it does not say how its images were normalised, in force stays mean [0.5, 0.5, 0.5]" in said[0]
    assert "(from the data)" in said[0]
    assert module(tmp_path / "weights.pt", "given")[1] == []


def test_the_tag_of_weights_says_what_they_were_trained_with():
    named = {"num_classes": 4, "in_channels": 3, "image_size": (32, 32), "mean": OF_DATA[0], "std": OF_DATA[1]}
    tagged = statistics_of(ClassifierModule("test_efficientnet.r160_in1k", **named, statistics="assumed"))
    assert tagged.mean != OF_DATA[0]
    assert tagged.origin == "timm's configuration of test_efficientnet.r160_in1k"
    assert statistics_of(ClassifierModule("test_efficientnet.r160_in1k", **named)).mean == OF_DATA[0]
    untagged = statistics_of(ClassifierModule("test_efficientnet", **named, statistics="assumed"))
    assert (untagged.mean, untagged.origin, untagged.assumed) == (OF_DATA[0], "the data", True)


def test_a_checkpoint_keeps_what_it_was_trained_with():
    trained = ClassifierModule(**TINY, mean=OF_FILE[0], std=OF_FILE[1])
    checkpoint = {"state_dict": trained.state_dict()}
    resumed = ClassifierModule(**TINY, mean=OF_DATA[0], std=OF_DATA[1], statistics="assumed")
    resumed.on_load_checkpoint(checkpoint)
    assert statistics_of(resumed).mean == pytest.approx(OF_FILE[0])
    assert statistics_of(resumed).origin == "the checkpoint"
    with pytest.raises(InputError, match="from the checkpoint"):
        ClassifierModule(**TINY, mean=OF_DATA[0], std=OF_DATA[1]).on_load_checkpoint(checkpoint)


def test_a_network_of_ones_own_gets_the_images_as_they_are_or_normalised_as_was_typed():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x = torch.rand(2, 3, 2, 2)
    options = {"num_classes": 2, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    of_data = ClassifierModule(net, statistics="assumed", **options)
    typed = ClassifierModule(net, **options)
    mean, std = (torch.tensor(options[name]).view(-1, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(of_data(x), net(x))
    torch.testing.assert_close(typed(x), net((x - mean) / std))
