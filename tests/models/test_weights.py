"""Weights and checkpoints from files: every nesting is understood, nothing is executed, nothing fits by halves."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models import NormalizedModel, create_model, load_weights, read_checkpoint, read_state_dict


def small_model(seed: int, *, channels: int = 3, mean: float = 0.5, width: int = 2) -> NormalizedModel:
    torch.manual_seed(seed)
    return create_model(
        "preact_resnet18",
        num_classes=4,
        in_channels=channels,
        image_size=(8, 8),
        mean=[mean] * channels,
        std=[0.25] * channels,
        backbone_options={"width": width},
    )


def equal(a: nn.Module, b: nn.Module) -> bool:
    mine, yours = a.state_dict(), b.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[key], yours[key]) for key in mine)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: weight for key, weight in state.items()}


def lightning_checkpoint(state: dict[str, Tensor]) -> dict[str, object]:
    return {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": prefixed(state, "backbone.") | {"objective.temperature": torch.tensor(1.0)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(12.0)}}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {"backbone": "preact_resnet18"},
        "callbacks": {},
    }


NESTINGS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "acc": torch.tensor(93.0)},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
    "net": lambda state: {"net": state, "acc": 93.1},
    "twice": lambda state: {"model": {"state_dict": state}},
    "data parallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "compiled data parallel": lambda state: {"net": prefixed(state, "module._orig_mod.")},
    "lightning": lightning_checkpoint,
    "compiled in lightning": lambda state: {"state_dict": prefixed(state, "backbone._orig_mod.")},
    "lightning of another project": lambda state: {"state_dict": prefixed(state, "model.")},
    "under an uncommon name": lambda state: prefixed(state, "student."),
    "before counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("part", ["whole", "inner net"])
def test_every_nesting_of_the_weights_is_understood(tmp_path, nesting, part):
    saved, model = small_model(1), small_model(2)
    state = saved.state_dict() if part == "whole" else saved.net.state_dict()
    torch.save(NESTINGS[nesting](state), tmp_path / "weights.pth")
    assert not equal(saved, model)
    load_weights(tmp_path / "weights.pth", model)
    assert equal(saved, model)


def test_weights_load_into_a_compiled_model_and_into_a_module_that_holds_it(tmp_path):
    saved = small_model(1)
    torch.save(saved.net.state_dict(), tmp_path / "weights.pth")
    compiled = small_model(2)
    load_weights(tmp_path / "weights.pth", torch.compile(compiled))
    assert equal(saved, compiled)
    holder = nn.ModuleDict({"backbone": small_model(2)})
    load_weights(tmp_path / "weights.pth", holder)
    assert equal(saved, holder["backbone"])


def test_normalisation_travels_with_the_weights_unless_another_was_given(tmp_path):
    saved = small_model(1, mean=0.3)
    torch.save(saved.state_dict(), tmp_path / "whole.pth")
    torch.save(saved.net.state_dict(), tmp_path / "inner.pth")
    model = small_model(2, mean=0.4)
    load_weights(tmp_path / "inner.pth", model)
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.4] * 3)
    with pytest.raises(InputError, match=r"the model has mean \[0.4.*leave mean and std out"):
        load_weights(tmp_path / "whole.pth", model)
    model.normalize.assumed = True
    load_weights(tmp_path / "whole.pth", model)
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.3] * 3)
    assert (model.normalize.origin, model.normalize.assumed) == ("whole.pth", False)


def test_half_precision_weights_take_the_dtype_of_the_model(tmp_path):
    saved, model = small_model(1).bfloat16(), small_model(2)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    load_weights(tmp_path / "weights.safetensors", model)
    assert equal(saved.float(), model)


def test_a_normalisation_outside_the_matching_part_must_be_the_models_own(tmp_path):
    saved = small_model(1)
    state = prefixed(saved.net.state_dict(), "1.") | {"0.mu": torch.full((3,), 0.5), "0.sigma": torch.full((3,), 0.25)}
    torch.save(state, tmp_path / "sequential.pth")
    model = small_model(2)
    load_weights(tmp_path / "sequential.pth", model)
    assert equal(saved, model)
    with pytest.raises(
        InputError, match=r"trained with mean \[0.5, 0.5, 0.5\].*0.mu, 0.sigma\), the model has mean \[0.4"
    ):
        load_weights(tmp_path / "sequential.pth", small_model(2, mean=0.4))
    with pytest.raises(InputError, match=r"the file normalises images .* and the model does not"):
        load_weights(tmp_path / "sequential.pth", small_model(2).net)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "bn1.weight" not in k}, r"weights are missing .*bn1.weight"),
        (lambda s: s | {"net.surplus": torch.zeros(1)}, r"1 are unknown to the model \(net.surplus\)"),
        (lambda s: s | {"net.features.5.weight": torch.zeros(3)}, r"features.5.weight: file \(3,\), model \(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_the_model_stays_as_it_was(tmp_path, spoil, message):
    torch.save(spoil(small_model(1).state_dict()), tmp_path / "weights.pth")
    model = small_model(2)
    with pytest.raises(InputError, match=message):
        load_weights(tmp_path / "weights.pth", model)
    assert equal(model, small_model(2))


def test_missing_weights_are_counted_and_only_a_few_listed(tmp_path):
    state = small_model(1).state_dict()
    torch.save({key: state[key] for key in list(state)[:10]}, tmp_path / "weights.pth")
    with pytest.raises(InputError) as caught:
        load_weights(tmp_path / "weights.pth", small_model(2))
    assert len(str(caught.value)) < 600
    assert ", ..." in str(caught.value)


def test_another_number_of_channels_is_named(tmp_path):
    torch.save(small_model(1, channels=1).net.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="the file takes images of 1 channels, the model of 3"):
        load_weights(tmp_path / "weights.pth", small_model(2))


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save({"blocks.0.attn.qkv.weight": torch.zeros(2, 2)}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"blocks.0.attn.qkv.weight.* another backbone\?"):
        load_weights(tmp_path / "weights.pth", small_model(2))


def test_parts_that_fit_in_the_last_word_of_their_names_alone_are_of_another_backbone(tmp_path):
    state = {f"_blocks.{i}._bn.{kind}": torch.zeros(2) for i in range(9) for kind in ("weight", "bias")}
    torch.save(state, tmp_path / "weights.pth")
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("stem", "body", "classifier")})
    with pytest.raises(
        InputError, match=r"hardly a weight has a name that the model knows.* another backbone\?"
    ) as told:
        load_weights(tmp_path / "weights.pth", model)
    assert len(str(told.value)) < 400


class Malice:
    """Its unpickling runs a command that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def save_old(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def save_old_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("read", [read_state_dict, read_checkpoint, lambda path: load_weights(path, small_model(1))])
@pytest.mark.parametrize(
    ("save", "message"),
    [
        (torch.save, r"it asks for (posix|nt).system, and files of weights are read without running code"),
        (save_old, r"it asks for (posix|nt).system, and files of weights are read without running code"),
        (save_old_pickle, r"it asks for (posix|nt).system, and files of weights are read without running code"),
        (save_pickle, "it is a plain pickle, which can run code"),
    ],
)
def test_a_malicious_file_is_refused_and_nothing_is_executed(tmp_path, save, message, read):
    trace, path = tmp_path / "executed", tmp_path / "weights.pth"
    save({"extra": Malice(trace), "state_dict": {"weight": torch.zeros(1)}}, path)
    with pytest.raises(InputError, match=f"weights.pth is refused: {message}"):
        read(path)
    assert not trace.exists()


def test_the_malicious_file_is_as_malicious_as_it_claims(tmp_path):
    torch.save({"extra": Malice(tmp_path / "executed")}, tmp_path / "weights.pth")
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_a_pickled_model_is_refused_with_the_way_to_save_it(tmp_path):
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"asks for torch.nn.modules.linear.Linear.*state_dict"):
        read_state_dict(tmp_path / "model.pt")


def truncated(path: Path) -> None:
    torch.save(small_model(1).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-2000])


def truncated_old(path: Path) -> None:
    torch.save(small_model(1).state_dict(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("weights.pth", lambda path: None, "no file .*weights.pth"),
        ("weights.pth", lambda path: path.mkdir(), "is a folder"),
        ("weights.pth", lambda path: path.touch(), "is empty"),
        ("weights.pth", lambda path: path.write_text("\n<!DOCTYPE html><html>404</html>"), "is a web page"),
        ("weights.pth", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("weights.pth", lambda path: path.write_text("some words"), "damaged"),
        ("weights.pth", truncated, "is damaged or incomplete"),
        ("weights.pth", truncated_old, "damaged"),
        ("weights.pth", lambda path: torch.save(torch.zeros(3), path), "holds a Tensor, expected a dictionary"),
        ("weights.pth", lambda path: torch.save({"epoch": 3}, path), "holds no weights: found epoch"),
        ("weights.pth", lambda path: torch.save({"state_dict": {}}, path), "holds no weights: found nothing"),
        ("weights.h5", lambda path: path.write_text("x"), "is no file of weights: expected .safetensors or .pt"),
        ("weights.safetensors", lambda path: path.write_text("<html>"), "is a web page"),
        ("weights.safetensors", lambda path: path.touch(), "is empty"),
        ("weights.safetensors", lambda path: path.write_text("some words"), "is not a complete safetensors file"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused_with_its_cause(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_state_dict(tmp_path / name)


def test_a_truncated_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a complete safetensors file"):
        read_state_dict(path)


def test_a_checkpoint_is_read_whole(tmp_path):
    content = lightning_checkpoint(small_model(1).state_dict())
    torch.save(content, tmp_path / "last.ckpt")
    read = read_checkpoint(tmp_path / "last.ckpt")
    assert read.keys() == content.keys()
    assert read["hyper_parameters"] == {"backbone": "preact_resnet18"}


def test_safetensors_are_no_checkpoint(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"is no checkpoint: expected one of \.pt"):
        read_checkpoint(tmp_path / "weights.safetensors")
