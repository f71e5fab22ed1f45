"""A typed result as plain data and tensors, and back: what a checkpoint holds of an evaluation.

A checkpoint is loaded without unpickling, so a result travels as dictionaries of its fields. What comes back may only
be a result, or a part of one that is defined where results are: nothing is imported, no other class is built.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from torch import Tensor

from lightning_adv.results.result import EvaluationResult

__all__ = ["as_state", "from_state"]

PLAIN = (str, int, float, bool, type(None))
CLASS, ITEMS, PAIRS = "class", "tuple", "pairs"


def as_state(result: EvaluationResult) -> dict | None:
    """A result's fields, all the way down; None where one of them is neither plain, a tensor nor a dataclass.

    Example:
        >>> from lightning_adv.results.result import EvaluationResult
        >>> from lightning_adv.results.transfer import TransferResult
        >>> issubclass(TransferResult, EvaluationResult), as_state(object())
        (True, None)
    """
    try:
        return _plain(result)
    except TypeError:
        return None


def from_state(state: dict | None) -> EvaluationResult | None:
    """What :func:`as_state` was given; None where its class is not known any more.

    Raises:
        TypeError, KeyError, ValueError: the state was changed or damaged.
    """
    if state is None or _class(state[CLASS]) is None:
        return None
    result = _typed(state)
    result.warnings = _typed(state["warnings"])  # a result may add to them when it is made: not a second time
    return result


def _plain(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if type(value) in PLAIN:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        if _class(name := _name(type(value))) is not type(value):
            raise TypeError(f"{name} cannot be found again")
        return {CLASS: name, **{each.name: _plain(getattr(value, each.name)) for each in fields(value) if each.init}}
    if isinstance(value, dict):
        return {PAIRS: [[_plain(key), _plain(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {ITEMS: [_plain(each) for each in value]}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    raise TypeError(f"a result holds a {type(value).__name__}")


def _typed(value: object) -> object:
    if isinstance(value, list):
        return [_typed(each) for each in value]
    if not isinstance(value, dict):
        return value
    if PAIRS in value:
        return {_typed(key): _typed(each) for key, each in value[PAIRS]}
    if ITEMS in value:
        return tuple(_typed(each) for each in value[ITEMS])
    cls = _class(value[CLASS])
    if cls is None:
        raise TypeError(f"{value[CLASS]} is no part of a result")
    return cls(**{name: _typed(each) for name, each in value.items() if name != CLASS})


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _class(name: str) -> type | None:
    """A result's class, or a dataclass of a module that is loaded and is the project's or defines a result."""
    results = {_name(each): each for each in _below(EvaluationResult)}
    if name in results:
        return results[name]
    module, _, attribute = name.partition(":")
    homes = {each.__module__ for each in results.values()}
    cls = getattr(sys.modules.get(module), attribute, None)
    known = module.startswith("lightning_adv.") or module in homes
    return cls if known and isinstance(cls, type) and is_dataclass(cls) and _name(cls) == name else None


def _below(cls: type) -> Iterator[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _below(each)
