"""What the command line knows of the classes that a configuration names."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_adv.attacks import Attack
from lightning_adv.backdoors import Trigger
from lightning_adv.data import Augmentation, Mixing
from lightning_adv.detectors import Detector
from lightning_adv.fooling import Fooling
from lightning_adv.inspectors import Inspector
from lightning_adv.mitigations import Mitigation
from lightning_adv.objectives import Objective
from lightning_adv.purifiers import Prompter, Purifier
from lightning_adv.scans import Scan

__all__ = ["BASES", "class_names", "concrete_subclasses", "constructor_defaults", "find_class", "imported", "places"]

BASES = (
    LightningModule,
    LightningDataModule,
    Callback,
    Logger,
    Optimizer,
    LRScheduler,
    Attack,
    Trigger,
    Inspector,
    Mitigation,
    Scan,
    Objective,
    Detector,
    Purifier,
    Prompter,
    Fooling,
    Augmentation,
    Mixing,
)
"""Kinds of classes that a configuration names."""
SIMPLE = (NoneType, bool, int, float)
"""Types that no name of a class has."""
PLACE = "its."
"""Where a parser of one class has its arguments, apart from options of the parser's own."""

_constructors: WeakKeyDictionary[type, dict[str, object]] = WeakKeyDictionary()
"""What was told of a class before: a command asks several times about each of its callbacks."""


def class_names(base: type | None) -> list[str]:
    """Names of the classes of one kind, or of all kinds, that can be instantiated; sorted."""
    classes = (cls for each in (BASES if base is None else (base,)) for cls in concrete_subclasses(each))
    return sorted({cls.__name__ for cls in classes if not cls.__name__.startswith("_") and cls not in BASES})


def find_class(path: str) -> type | None:
    """The class of a dotted path, or of a name without module; None if there is none in what has been imported."""
    module, _, name = path.rpartition(".")
    if not module:
        return next((cls for base in BASES for cls in concrete_subclasses(base) if cls.__name__ == name), None)
    found = imported(path)
    return found if isinstance(found, type) else None


def imported(path: str) -> object | None:
    """What stands under a dotted path in the modules that have been imported, None for nothing.

    A path may come from a file or from an error about one: looking something up must not run it.
    """
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def constructor_defaults(path: str) -> dict[str, object]:
    """Arguments that the command line takes for a class, with their defaults; ``Parameter.empty`` where one is needed.

    The parser tells which they are: what a constructor hands on to its bases is among them, what it gives them itself
    is not. There are none for a class that no text can describe.
    """
    cls = find_class(path)
    if cls is None:
        return {}
    if cls not in _constructors:
        _constructors[cls] = _constructor(cls)
    return dict(_constructors[cls])


def _constructor(cls: type) -> dict[str, object]:
    parser = ArgumentParser(exit_on_error=False)
    try:
        names = parser.add_class_arguments(cls, PLACE[:-1], fail_untyped=False)
    except ValueError:
        return {}
    defaults: dict[str, object] = {}
    for each in inspect.getmro(cls):
        own = vars(each).get("__init__")
        for name, parameter in inspect.signature(own).parameters.items() if inspect.isfunction(own) else ():
            defaults.setdefault(f"{PLACE}{name}", parameter.default)
    return {name.removeprefix(PLACE): defaults.get(name) for name in names}


def places(cls: type) -> dict[str, tuple[type, list[str]]]:
    """Arguments of a class that take classes of one kind, and nothing that could be taken for one.

    Returns:
        By name the kind and the shapes that a value may have: "one" class, a "list" or a "dict" of them.
    """
    hints: dict[str, object] = {}
    for each in inspect.getmro(cls):
        own = vars(each).get("__init__")
        if inspect.isfunction(own):
            with suppress(NameError, TypeError):  # what stands there is known to a type checker alone
                hints = get_type_hints(own) | hints
    return {name: place for name, hint in hints.items() if (place := _place(hint)) is not None}


def _place(hint: object) -> tuple[type, list[str]] | None:
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    found = [_shape(member) for member in members if member not in SIMPLE]
    shapes = [each and each[1] for each in found]
    if not found or None in found or len({base for base, _ in found}) > 1 or {"list", "dict"} <= {*shapes}:
        return None
    return found[0][0], shapes


def _shape(hint: object) -> tuple[type, str] | None:
    """Kind and shape of one type; None where it is neither a class of a kind nor a list or dict of them."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in BASES:
        return hint, "one"
    if not isinstance(origin, type) or not arguments or arguments[-1] not in BASES:
        return None
    if origin is Callable:
        return arguments[-1], "one"
    return arguments[-1], "dict" if issubclass(origin, Mapping) else "list"


def concrete_subclasses(base: type) -> Iterator[type]:
    """Subclasses that can be instantiated, of all that has been imported."""
    for cls in base.__subclasses__():
        yield from concrete_subclasses(cls)
        if not (
            inspect.isabstract(cls) or issubclass(cls, LightningOptimizer)
        ):  # which a trainer makes of an optimiser
            yield cls
