"""What of the classes that a configuration may name is worth keeping for the next start; see ``early``."""

import inspect
import sys
from collections.abc import Iterator
from typing import NoReturn

from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_adv.cli.app import CLI
from lightning_adv.cli.classes import BASES, class_names, constructor_defaults, places
from lightning_adv.cli.help import PAGES, TRAIN
from lightning_adv.cli.parser import Parser

__all__ = ["learnt"]

TRAINED = (Optimizer, LRScheduler)
"""Kinds whose first argument no configuration gives."""


def learnt() -> dict[str, object]:
    """Plain data about all classes that have been imported, and the command's options.

    Returns:
        ``options`` of ``fit``, dotted; ``names``, those to choose from by the name of a base ("" for all of them);
        ``all``, every name that any class has; ``paths``, dotted paths to names; ``arguments`` by name; and ``places``
        by name and argument: the base's key in ``names`` and the shapes ("one", "list", "dict") that a value may have,
        for arguments that take classes of one base and nothing that could be taken for one.
    """
    classes = {cls for base in BASES for cls in _subclasses(base)}
    by_name = {cls.__name__: cls for cls in classes}
    twice = {cls.__name__ for cls in classes if by_name[cls.__name__] is not cls}
    alone = {name: cls for name, cls in sorted(by_name.items()) if name not in twice and _may_be_named(cls)}
    arguments = {name: [*constructor_defaults(f"{cls.__module__}.{name}")] for name, cls in alone.items()}
    return {
        "options": _options(),
        "names": {"": class_names(None)} | {base.__name__: class_names(base) for base in BASES},
        "all": sorted(by_name),
        "paths": {path: name for name, cls in alone.items() for path in _paths(cls)},
        "arguments": {name: own for name, own in arguments.items() if own},
        "places": {
            "": {"model": [LightningModule.__name__, ["one"]], "data": [LightningDataModule.__name__, ["one"]]},
            "trainer": _places(Trainer),
            **{name: _places(cls) for name, cls in alone.items() if not issubclass(cls, TRAINED)},
        },
    }


class _Built(Exception):
    """A parser is there, and that was all."""


class _Parsers(CLI):
    """The command line up to where it would read its arguments."""

    def parse_arguments(self, parser: Parser, args: list[str]) -> NoReturn:
        raise _Built(*parser.option_names())


def _options() -> list[str]:
    try:
        _Parsers(["fit"], "", {"program": TRAIN, **PAGES})
    except _Built as built:
        return [*built.args]
    return []


def _may_be_named(cls: type) -> bool:
    return not (cls.__name__.startswith("_") or inspect.isabstract(cls))


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _paths(cls: type) -> Iterator[str]:
    """The dotted path of a class in its module, and those in packages around it that export it."""
    parts = cls.__module__.split(".")
    for module in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
        if vars(sys.modules[module]).get(cls.__name__) is cls:
            yield f"{module}.{cls.__name__}"


def _places(cls: type) -> dict[str, tuple[str, list[str]]]:
    return {name: (base.__name__, shapes) for name, (base, shapes) in places(cls).items()}
