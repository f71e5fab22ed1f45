"""Published layouts: weights under the field's names give the published network's logits, or are refused."""

import argparse
import copy
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.models import NormalizedModel, create_model, load_weights
from tests.models.published import CLASSES, IMAGES, LAYOUTS, MEAN, STD, published

State = dict[str, Tensor]


@functools.cache
def _network(name: str) -> NormalizedModel:
    layout = LAYOUTS[name]
    torch.manual_seed(0)
    return create_model(
        layout.backbone,
        num_classes=CLASSES,
        in_channels=3,
        image_size=(16, 16),
        mean=MEAN,
        std=STD,
        backbone_options=layout.options,
    )


def network(name: str) -> NormalizedModel:
    return copy.deepcopy(_network(name))


def load(path: Path, model: NormalizedModel, **options: str) -> list[str]:
    """Load, and give what was noted on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_weights(path, model, **options)
    return [str(warning.message) for warning in caught]


def assert_same_logits(model: NormalizedModel, logits: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(IMAGES), logits, atol=1e-5, rtol=0)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: weight for key, weight in state.items()}


def statistics(*names: str) -> State:
    return {name: torch.tensor(values).view(1, 3, 1, 1) for name, values in zip(names, (MEAN, STD), strict=True)}


def with_counters(state: State) -> State:
    """As thop leaves it."""
    modules = {key.rpartition(".")[0] for key in state}
    counters = {f"{module}.{name}": torch.zeros(1) for module in modules for name in ("total_ops", "total_params")}
    return state | counters | {"total_ops": torch.zeros(1), "total_params": torch.zeros(1)}


def training_state(state: State) -> dict[str, object]:
    settings = argparse.Namespace(lr=np.float64(0.1), eps=8, mean=np.array(MEAN), inner=argparse.Namespace(name="a"))
    return {"state": state, "args": settings, "acc": np.float32(83.4), "best": np.int64(3), "epoch": 9}


WRAPPINGS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "data parallel, model_state": lambda state: {"model_state": prefixed(state, "module."), "epoch": 3},
    "compiled lightning": lambda state: {"state_dict": prefixed(state, "model._orig_mod."), "epoch": 3},
    "settings and numbers of numpy beside": training_state,
    "classifier in a checkpoint": lambda state: {"checkpoint": {"classifier": state}},
    "list of dictionaries": lambda state: [state, {"epoch": 3}],
    "averaged weights alone": lambda state: {"ema": {"decay": 0.99, "shadow": state}, "optimizer": {"state": {}}},
    "counted operations": with_counters,
    "statistics as buffers": lambda state: statistics("mu", "sigma") | state,
    "normalisation in a sequential": lambda state: statistics("0.mean", "0.std") | prefixed(state, "1."),
    "under an averaged name": lambda state: prefixed(state, "wa_model.module."),
}


# The deepest network in one wrapping: it differs from the next by its depth alone.
CASES = [
    (name, wrapping) for name in LAYOUTS for wrapping in WRAPPINGS if name != "dm_wide_resnet_70" or wrapping == "bare"
]


@pytest.mark.parametrize(("name", "wrapping"), CASES)
def test_weights_under_the_names_of_the_field_give_the_published_logits(tmp_path, name, wrapping):
    state, logits = published(name)
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "weights.pt")
    model = network(name)
    load(tmp_path / "weights.pt", model)
    assert_same_logits(model, logits)


def test_two_networks_of_the_same_names_differ():
    wong, cifar = network("preact_wong"), network("preact_pytorch_cifar")
    assert not torch.allclose(published("preact_wong")[1], published("preact_pytorch_cifar")[1], atol=0.1)
    assert wong.state_dict().keys() != cifar.state_dict().keys()


def test_which_of_two_networks_of_the_same_names_is_asked_for():
    with pytest.raises(InputError, match="give raw_shortcut, true for those of Wong"):
        create_model(
            "preact_resnet18",
            num_classes=2,
            in_channels=3,
            image_size=(8, 8),
            backbone_options={"width": 2, "final_norm": False},
        )


@pytest.mark.parametrize(
    ("name", "into", "message"),
    [
        ("preact_wong", "preact_rice", "missing from the file .*: false"),
        ("preact_pytorch_cifar", "preact_rice", "missing from the file .*: false"),
        ("preact_rice", "preact_wong", "unknown to the model .*use backbone preact_resnet18"),
        ("preact_rice", "preact_pytorch_cifar", "unknown to the model .*use backbone preact_resnet18"),
        ("resnet_pytorch_cifar", "preact_rice", "use backbone resnet18_cifar"),
        ("resnet_pytorch_cifar", "preact_wong", "use backbone resnet18_cifar"),
        ("preact_rice", "resnet_pytorch_cifar", "use backbone preact_resnet18"),
        ("preact_wong", "resnet_pytorch_cifar", "use backbone preact_resnet18"),
        ("wide_resnet_28", "dm_wide_resnet_28", "use backbone wide_resnet28_10"),
        ("dm_wide_resnet_28", "wide_resnet_28", "use backbone dm_wide_resnet_28_10"),
        ("dm_wide_resnet_70", "dm_wide_resnet_28", "unknown to the model"),
        ("dm_preact_resnet", "preact_rice", "use backbone dm_preact_resnet18"),
        ("preact_rice", "dm_preact_resnet", "use backbone preact_resnet18"),
    ],
)
def test_the_wrong_network_is_refused_in_one_line_that_names_the_right_one(tmp_path, name, into, message):
    torch.save(published(name)[0], tmp_path / "weights.pt")
    model = network(into)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=message) as refusal:
        load_weights(tmp_path / "weights.pt", model)
    assert "\n" not in str(refusal.value)
    assert "order" not in str(refusal.value)
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_weights_of_one_project_network_do_not_load_into_its_variant(tmp_path):
    torch.save(network("preact_wong").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"shortcut.*are unknown to the model \(.*raw_shortcut") as refusal:
        load_weights(tmp_path / "weights.pt", network("preact_pytorch_cifar"))
    assert "order" not in str(refusal.value)


def test_what_no_image_passes_is_left_out_and_counted(tmp_path):
    state, logits = published("wide_resnet_28")
    unused = {f"sub_{key}": weight for key, weight in state.items() if key.startswith("block1.")}
    torch.save(prefixed(with_counters(state | unused), "module."), tmp_path / "weights.pt")
    model = network("wide_resnet_28")
    (note,) = load(tmp_path / "weights.pt", model)
    left_out = len(with_counters(state | unused)) - len(state)
    assert f"left out {left_out} entries that no image passes" in note
    assert "\n" not in note
    assert_same_logits(model, logits)


def test_an_entry_that_stands_for_nothing_known_is_refused(tmp_path):
    torch.save(published("wide_resnet_28")[0] | {"block4.weight": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"1 are unknown to the model \(net.block4.weight\)"):
        load_weights(tmp_path / "weights.pt", network("wide_resnet_28"))


def test_the_statistics_of_a_published_file_must_be_the_models(tmp_path):
    state = published("dm_preact_resnet")[0] | statistics("mean", "std")
    torch.save(state, tmp_path / "weights.pt")
    assert load(tmp_path / "weights.pt", network("dm_preact_resnet")) == []
    other = network("dm_preact_resnet")
    other.normalize.mean.fill_(0.5)
    with pytest.raises(InputError, match=r"trained with mean \[0.49.*mean, std\), the model has mean \[0.5"):
        load_weights(tmp_path / "weights.pt", other)
    with pytest.raises(InputError, match=r"the file normalises images .* and the model does not"):
        load_weights(tmp_path / "weights.pt", other.net)


def averaged_beside(live: State, averaged: State) -> dict[str, object]:
    return {
        "ema": {"model_state_dict": live, "ema": averaged},
        "unaveraged_model_state_dict": {"model_state_dict": averaged, "unaveraged_model_state_dict": live},
        "state_dict_ema": {"state_dict": live, "state_dict_ema": {"module": 1, **averaged}, "optimizer": {}},
        "wa_model": prefixed(live, "model.") | prefixed(averaged, "wa_model.module."),
        "avg_model": {"state_dict": prefixed(live, "backbone.") | prefixed(averaged, "avg_model.")},
        "1": [live, averaged],
    }


@pytest.mark.parametrize("which", averaged_beside({}, {}))
def test_of_live_and_averaged_weights_one_must_be_asked_for(tmp_path, which):
    averaged, logits = published("preact_rice")
    live = {key: weight + 1 for key, weight in averaged.items()}
    torch.save(averaged_beside(live, averaged)[which], tmp_path / "weights.pt")
    with pytest.raises(InputError, match=rf"--model\.which={which}"):
        load_weights(tmp_path / "weights.pt", network("preact_rice"))
    model = network("preact_rice")
    load(tmp_path / "weights.pt", model, which="model_state_dict" if which.startswith("un") else which)
    assert_same_logits(model, logits)


def test_a_set_of_weights_that_is_not_there_is_refused(tmp_path):
    torch.save({"model": published("preact_rice")[0]}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights.pt holds nothing called 'ema': it has conv1.weight"):
        load_weights(tmp_path / "weights.pt", network("preact_rice"), which="ema")


def test_a_file_in_the_order_of_the_model_loads_when_that_is_asked_for(tmp_path):
    model = network("resnet_pytorch_cifar")
    weights, logits = published("resnet_pytorch_cifar")
    state = {f"part{i}.{key.rpartition('.')[2]}": weight for i, (key, weight) in enumerate(weights.items())}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"all shapes agree in their order, though: --model\.match=order"):
        load_weights(tmp_path / "weights.pt", model)
    load(tmp_path / "weights.pt", model, match="order")
    assert_same_logits(model, logits)
    first = next(iter(state))
    torch.save({first: state[first].flatten()} | {k: v for k, v in state.items() if k != first}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="its weights have other shapes than the model's in the same order"):
        load_weights(tmp_path / "other.pt", model, match="order")
    with pytest.raises(InputError, match=r"is it the weights of another backbone\?$"):
        load_weights(tmp_path / "other.pt", model)


@pytest.mark.parametrize("suffix", [".bin", ".pkl", ".model", ".pt", ".safetensors"])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_file_is_what_its_content_is_whatever_its_suffix(tmp_path, save, suffix):
    state, logits = published("preact_rice")
    save(state, tmp_path / f"weights{suffix}")
    model = network("preact_rice")
    load(tmp_path / f"weights{suffix}", model)
    assert_same_logits(model, logits)
