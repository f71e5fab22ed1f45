"""The layouts of weights that are met in the wild, with random weights, and none of them by this project's own code."""

import argparse
import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from experiments.open_models.hub import torch_file
from experiments.open_models.libraries import OF_LIBRARIES, drawn, small_net
from experiments.open_models.published import IMAGES, MEAN, NETWORKS, STD, State, published
from experiments.open_models.trials import Layout
from lightning_adv.files import replace_atomically

__all__ = ["LAYOUTS"]

Wrapped = Callable[[State], object]


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + key: weight for key, weight in state.items()}


def _figures(*names: str, factor: float = 1.0, shape: tuple[int, ...] = (3,)) -> State:
    return {name: factor * torch.tensor(each).view(shape) for name, each in zip(names, (MEAN, STD), strict=True)}


def _with_counters(state: State) -> State:
    """As thop leaves it."""
    modules = {key.rpartition(".")[0] for key in state}
    counters = {f"{module}.{name}": torch.zeros(1) for module in modules for name in ("total_ops", "total_params")}
    return state | counters | {"total_ops": torch.zeros(1), "total_params": torch.zeros(1)}


def _training_state(state: State) -> dict[str, object]:
    inner = argparse.Namespace(name="a")
    settings = argparse.Namespace(lr=np.float64(0.1), mean=np.array(MEAN), std=np.array(STD), inner=inner)
    return {"state": state, "args": settings, "acc": np.float32(83.4), "best": np.int64(3), "epoch": 9}


def _of_lightning(state: State) -> dict[str, object]:
    """As another project's LightningModule leaves it."""
    content = {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.1.0", "loops": {}, "callbacks": {}}
    nonsense = {"backbone": "subprocess.Popen", "_class_path": "os.system"}
    return {**content, "state_dict": _prefixed(state, "model."), "optimizer_states": [], "hyper_parameters": nonsense}


WRAPPINGS: dict[str, tuple[Wrapped, bool]] = {
    "bare": (lambda state: state, False),
    "data parallel, model_state": (lambda state: {"model_state": _prefixed(state, "module."), "epoch": 3}, False),
    "compiled lightning": (lambda state: {"state_dict": _prefixed(state, "model._orig_mod."), "epoch": 3}, False),
    "settings and numbers of numpy beside": (_training_state, True),
    "classifier in a checkpoint": (lambda state: {"checkpoint": {"classifier": state}}, False),
    "list of dictionaries": (lambda state: [state, {"epoch": 3}], False),
    "averaged weights alone": (
        lambda state: {"ema": {"decay": 0.99, "shadow": state}, "optimizer": {"state": {}}},
        False,
    ),
    "counted operations": (_with_counters, False),
    "statistics as buffers": (lambda state: _figures("mu", "sigma", shape=(1, 3, 1, 1)) | state, True),
    "normalisation in a sequential": (lambda state: _figures("0.mean", "0.std") | _prefixed(state, "1."), True),
    "under an averaged name": (lambda state: _prefixed(state, "wa_model.module."), False),
}
"""What weights are wrapped in, and whether it tells how images were normalised."""

AVERAGED: dict[str, Callable[[State, State], object]] = {
    "ema": lambda live, averaged: {"model_state_dict": live, "ema": averaged},
    "model_state_dict": lambda live, averaged: {"model_state_dict": averaged, "unaveraged_model_state_dict": live},
    "state_dict_ema": lambda live, averaged: {
        "state_dict": live,
        "state_dict_ema": {"module": 1, **averaged},
        "optimizer": {},
    },
    "wa_model": lambda live, averaged: _prefixed(live, "model.") | _prefixed(averaged, "wa_model.module."),
    "avg_model": lambda live, averaged: {
        "state_dict": _prefixed(live, "backbone.") | _prefixed(averaged, "avg_model.")
    },
    "1": lambda live, averaged: [live, averaged],
}
"""Live and averaged weights in one file, by the name under which the averaged ones are asked for."""

TOLD: dict[str, Wrapped] = {
    "buffers under a long name": lambda state: _figures("pre.pixel_mean", "pre.pixel_std", shape=(3, 1, 1)) | state,
    "pixels of 0 to 255": lambda state: _figures("data.mean", "data.std", factor=255) | state,
    "beside a wrapped network": lambda state: _figures("norm.mean", "norm.std") | _prefixed(state, "module."),
    "lists beside the weights": lambda state: {"state_dict": state, "mean": list(MEAN), "std": list(STD)},
    "settings beside the weights": lambda state: {
        "net": state,
        "args": {"input": {"mean": MEAN, "std": STD, "betas": (0.9, 0.99, 0.9)}},
    },
    "twice the same": lambda state: _figures("mean", "std") | _figures("normalize_mean", "normalize_std") | state,
}
"""How files tell the statistics of their images."""

UNTOLD: dict[str, Wrapped] = {
    "two unknown names": lambda state: _figures("a.first", "a.second") | state,
    "two unknown names, one of them inside": lambda state: _figures("shift", "module.scale") | state,
    "a mean, and an unknown name": lambda state: _figures("mu", "shift") | state,
    "a mean alone": lambda state: {"net": state, "args": {"mean": MEAN}},
}
"""Figures of which nobody says what they are."""

WRONG = (
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
)
"""Weights, the network that they are given to, and what that is told."""


UNFIT: dict[str, tuple[Wrapped, str]] = {
    "student and teacher": (
        lambda state: _prefixed(state, "student.") | _prefixed(state, "teacher."),
        r"equally well \(student\., teacher\.\)",
    ),
    "a weight too few": (
        lambda state: {k: v for k, v in state.items() if k != "bn.bias"},
        "1 weights are missing from the file",
    ),
    "a weight too many": (lambda state: state | {"layer5.weight": torch.ones(3, 3)}, "unknown to the model"),
    "a number that is none": (lambda state: state | {"conv1.weight": state["conv1.weight"] * torch.nan}, "finite"),
    "more classes": (
        lambda state: state | {"linear.weight": torch.ones(9, 32), "linear.bias": torch.ones(9)},
        "the file has 9 classes",
    ),
}
"""Weights that do not fit, and what is said of them."""


def _of(name: str, kind: str, what: str, outcome: str, wrap: Wrapped, into: str = "", **more: object) -> Layout:
    """Weights of a published network in a file of torch."""
    network = NETWORKS[into or name]
    return Layout(
        kind,
        what,
        outcome,
        lambda folder: torch_file(folder / "weights.pt", wrap(published(name)[0])),
        lambda: published(name)[1],
        backbone=network.backbone,
        options=network.options,
        **more,
    )


def _published() -> Iterator[Layout]:
    for name, network in NETWORKS.items():
        for what, (wrap, tells) in WRAPPINGS.items():
            # The deepest network in one wrapping: it differs from the next by its depth alone.
            if name != "dm_wide_resnet_70" or what == "bare":
                yield _of(name, network.title, what, "loads right", wrap, tells=tells)
    unused = lambda state: state | {f"sub_{k}": v for k, v in state.items() if k.startswith("block1.")}  # noqa: E731
    title = NETWORKS["wide_resnet_28"].title
    yield _of("wide_resnet_28", title, "sub_block1, which no image passes", "loads right", unused)
    for what, (wrap, says) in UNFIT.items():
        yield _of("preact_rice", "weights that do not fit", what, "refuses", wrap, says=says)
    for name, into, says in WRONG:
        what = f"{NETWORKS[name].title} into {NETWORKS[into].title}"
        yield _of(name, "weights of another network", what, "refuses", lambda state: state, into, says=says)


def _choices() -> Iterator[Layout]:
    live = lambda state: {key: weight + 1 for key, weight in state.items()}  # noqa: E731
    for which, both in AVERAGED.items():
        yield _of(
            "preact_rice",
            "live and averaged weights",
            which,
            "asks",
            lambda state, both=both: both(live(state), state),
            answer={"which": which},
            says=r"--model\.which=",
        )
    yield _of(
        "resnet_pytorch_cifar",
        "names that nobody knows",
        "all shapes in their order",
        "asks",
        lambda state: {f"part{i}.{key.rpartition('.')[2]}": weight for i, (key, weight) in enumerate(state.items())},
        answer={"match": "order"},
        says=r"--model\.match=order",
    )
    for what, wrap in TOLD.items():
        yield _of("preact_rice", "statistics in the file", what, "loads right", wrap, tells=True)
    for what, wrap in UNTOLD.items():
        told = {"answer": {"mean": MEAN, "std": STD}, "says": "give them as model.mean and model.std"}
        yield _of("preact_rice", "what may be statistics in the file", what, "asks", wrap, **told)
    yield _of("preact_rice", "checkpoint of another Lightning project", "model.", "loads right", _of_lightning)


def _files() -> Iterator[Layout]:
    network = NETWORKS["preact_rice"]
    mine = {"backbone": network.backbone, "options": network.options, "logits": lambda: published("preact_rice")[1]}
    savers: dict[str, Callable[[Path, State], Path]] = {
        "torch": torch_file,
        "torch before zip files": partial(torch_file, _use_new_zipfile_serialization=False),
        "safetensors": _safetensors,
    }
    for how, write in savers.items():
        for suffix in (".bin", ".pkl", ".model", ".pt", ".pth.tar", ".safetensors"):
            yield Layout(
                f"file of {how}",
                suffix,
                "loads right",
                lambda folder, write=write, suffix=suffix: write(
                    folder / f"weights{suffix}", published("preact_rice")[0]
                ),
                **mine,
            )
    cut = lambda folder: _bytes(folder / "net.pth", _script()[:-200])  # noqa: E731
    yield Layout("no file of weights", "end cut off", "refuses", cut, backbone=network.backbone, says="damaged")
    for what, (write, says, suffixes) in PROGRAMS.items():
        for suffix in suffixes:
            write_as = lambda folder, write=write, suffix=suffix: write(folder / f"net{suffix}")  # noqa: E731
            named = f"{what}, {suffix or 'no suffix'}"
            yield Layout("file with a program", named, "refuses", write_as, backbone=network.backbone, says=says)
    for what, text, says in (
        ("web page", b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        ("Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("words", b"some words", "damaged"),
        ("Keras", b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    ):
        write = lambda folder, text=text: _bytes(folder / "weights.pth", text)  # noqa: E731
        yield Layout("no file of weights", what, "refuses", write, backbone=network.backbone, says=says)


def _safetensors(path: Path, state: State) -> Path:
    return _bytes(path, save(state))


def _bytes(path: Path, text: bytes) -> Path:
    replace_atomically(path, text)
    return path


class Malice:
    """Its unpickling would make a folder beside the file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """What a pickle runs."""
        return os.mkdir, (str(self.mark),)


@cache
def _script() -> bytes:
    text = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have nobody write TorchScript
        torch.jit.save(torch.jit.script(drawn(small_net)), text)
    return text.getvalue()


@cache
def _program() -> bytes:
    text = io.BytesIO()
    torch.export.save(torch.export.export(drawn(small_net), (IMAGES[:1],)), text)
    return text.getvalue()


ANY = (".pt", ".ckpt", ".bin", ".pt2", ".anything", "")
PROGRAMS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "TorchScript": (lambda path: _bytes(path, _script()), r"torch\.jit\.load\(FILE\)\.state_dict\(\)", ANY),
    "torch.export": (lambda path: _bytes(path, _program()), r"torch\.export\.load\(FILE\)\.state_dict", ANY),
    "pickled module": (lambda path: torch_file(path, drawn(small_net)), r"model\.state_dict\(\)", (".pth",)),
    "weights with code beside them": (
        lambda path: torch_file(path, {"state_dict": {}, "extra": Malice(path.parent / "mark")}),
        "it asks for .*mkdir",
        (".pth",),
    ),
    "plain pickle": (lambda path: _bytes(path, pickle.dumps({"w": [1.0]})), "plain pickle", (".pkl",)),
}
"""Files that hold a program: how they are written, what is said of them, and under which suffixes they are tried."""


LAYOUTS = (*_published(), *_choices(), *_files(), *OF_LIBRARIES)
"""All of them."""
