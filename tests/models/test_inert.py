"""Settings, numbers and arrays in a checkpoint come as plain values; whatever pretends to be one is refused."""

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.models import read_checkpoint, read_state_dict


def test_settings_and_numbers_come_as_plain_values(tmp_path):
    shared = [np.float32(0.5)]
    content = {
        "args": argparse.Namespace(
            lr=np.float64(0.1), nested=argparse.Namespace(steps=10), names=np.array(["a", "bc"])
        ),
        "numbers": (np.int64(-3), np.bool_(True), np.complex64(1j), np.str_("x"), np.float16(0.25)),
        "twice": [shared, shared],
    }
    torch.save(content, tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt") == {
        "args": {"lr": 0.1, "nested": {"steps": 10}, "names": ["a", "bc"]},
        "numbers": (-3, True, 1j, "x", 0.25),
        "twice": [[0.5], [0.5]],
    }


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.arange(3, dtype=">f4"),
        np.array(2.5, dtype=np.float16),
        np.array([True, False]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_come_as_tensors_of_the_same_values(tmp_path, array):
    torch.save({"state_dict": {"weight": array}}, tmp_path / "weights.pt")
    weight = read_state_dict(tmp_path / "weights.pt")["weight"]
    assert weight.tolist() == array.tolist()
    assert weight.dtype == torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).dtype


class Call:
    """Its unpickling calls a function, and gives the result a state."""

    def __init__(self, function: Callable, *arguments: object, state: object = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.reduced


def forged(path: Path) -> dict[str, object]:
    """Contents that abuse a type which torch would have to allow for honest ones."""
    bytes_as_objects = Call(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))
    reconstruct = np.array(0).__reduce__()[0]
    return {
        "objects": np.array([{"a": 1}], dtype=object),
        "addresses": Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), bytes_as_objects, False, b"A" * 8)),
        "scalar": Call(np.float64(0).__reduce__()[0], bytes_as_objects, b"A" * 8),
        "records": np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
        "too short": Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (9,), np.dtype("f8"), False, b"A" * 8)),
        "not a type": Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), "f8", False, b"A" * 8)),
        "namespace": argparse.Namespace(run=Call(os.system, f"touch {path}")),
        "state of a namespace": Call(argparse.Namespace, state=Call(os.system, f"touch {path}")),
        "no dictionary": Call(argparse.Namespace, state=[1]),
        "namespace of a function": Call(argparse.Namespace, print),
        "loads": Call(pickle.loads, b"\x80\x04N."),
    }


@pytest.mark.parametrize("name", forged(Path()))
def test_what_pretends_to_be_inert_is_refused_and_runs_nothing(tmp_path, name):
    torch.save({"extra": forged(tmp_path / "trace")[name], "weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(InputError) as refusal:
        read_state_dict(tmp_path / "weights.pt")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "trace").exists()


def test_nothing_stays_allowed_after_a_file_was_read(tmp_path):
    torch.save({"args": argparse.Namespace(a=1)}, tmp_path / "last.ckpt")
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(tmp_path / "last.ckpt")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("beside", [{}, {"net": {"epoch": 3}}, {"state_dict": {"a": {}}}])
def test_a_dictionary_that_contains_itself_ends(tmp_path, beside):
    content: dict[str, object] = dict(beside)
    content["model"] = content
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="holds no weights"):
        read_state_dict(tmp_path / "weights.pt")


def test_shared_containers_are_walked_once(tmp_path):
    tower: object = np.float32(1)
    for _ in range(100):  # 2 ** 100 paths lead to the number
        tower = (tower, tower) if _ % 2 else [tower, tower]
    torch.save({"tower": tower, "weight": torch.zeros(1)}, tmp_path / "weights.pt")
    assert list(read_state_dict(tmp_path / "weights.pt")) == ["weight"]
