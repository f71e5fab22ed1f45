"""What checkpoints carry beside their weights, rebuilt as plain values: settings of argparse, numbers and arrays.

torch.load(weights_only=True) refuses these types, and allowing the real ones would be unsafe: a file sets the state of
`numpy.dtype` as it likes, and an array of objects whose type claims to hold none takes the bytes of the file as
addresses. Here each name leads to a class of this module, which takes nothing but values and checks them.
"""

import pickle
import re
from collections.abc import Callable

import numpy as np
import torch

__all__ = ["STAND_INS", "settle"]

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,4}")
_AS_TENSOR = "biufc"  # kinds of dtypes that are numbers


class _Settings:
    """In place of `argparse.Namespace`."""

    values: object = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("settings that are no dictionary")
        self.values = state


class _DType:
    """In place of `numpy.dtype`: of numbers and strings alone."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *flags: object) -> None:
        if not isinstance(code, str) or _PLAIN_DTYPE.fullmatch(code) is None:
            raise pickle.UnpicklingError("class numpy.object_")
        self.code, self.order = code, "<"

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        self.order = order if order in ("<", ">") else "<"  # "|" and "=": of single bytes, or unsaid

    def read(self, data: object) -> np.ndarray:
        if not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array whose values are no bytes")
        return np.frombuffer(data, np.dtype(self.order + self.code))


class _Array:
    """In place of `numpy.ndarray`."""

    values: object = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType):
            raise pickle.UnpicklingError("an array without a type")
        array = dtype.read(data).reshape(shape, order="F" if fortran else "C")
        if array.dtype.kind not in _AS_TENSOR:
            self.values = array.tolist()
            return
        native = array.dtype.newbyteorder("=")
        self.values = torch.from_numpy(np.array(array, dtype=native, order="C"))  # a copy that may be written to


def _empty_array(*arguments: object) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: bytes) -> bool | int | float | complex | str | bytes:
    return dtype.read(data).item()


STAND_INS: list[tuple[Callable, str]] = [
    (_Settings, "argparse.Namespace"),
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
"""For `torch.serialization.safe_globals`: what is built, and under which name a file asks for it."""


def settle(content: object) -> object:
    """The content of a file with every stand-in replaced: settings by a dict, arrays by tensors or lists.

    Dictionaries and lists are changed in place.
    """
    return _settle(content, {})


def _settle(value: object, settled: dict[int, tuple[object, object]]) -> object:
    """``settled`` holds each container and its result by identity: shared ones are walked once, and circles end."""
    if isinstance(value, _Settings | _Array):
        value = value.values
    if not isinstance(value, dict | list | tuple) or isinstance(value, torch.Size):
        return value
    if id(value) in settled:
        return settled[id(value)][1]
    if isinstance(value, tuple):
        result = tuple(_settle(item, settled) for item in value)
        settled[id(value)] = (value, result)
        return result
    settled[id(value)] = (value, value)
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        value[key] = _settle(value[key], settled)
    return value
