"""What the command line knows of the classes that a configuration names."""

import inspect
import sys
from collections.abc import Iterator

from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, LightningDataModule, LightningModule
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

__all__ = ["BASES", "class_names", "concrete_subclasses", "constructor_defaults", "find_class", "imported"]

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
PLACE = "its."
"""Where a parser of one class has its arguments, apart from options of the parser's own."""


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


def concrete_subclasses(base: type) -> Iterator[type]:
    """Subclasses that can be instantiated, of all that has been imported."""
    for cls in base.__subclasses__():
        yield from concrete_subclasses(cls)
        if not inspect.isabstract(cls):
            yield cls
