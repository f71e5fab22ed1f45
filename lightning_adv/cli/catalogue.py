"""What there is to name in a configuration: lists of every kind, and a page for each name."""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from docstring_parser import parse
from pytorch_lightning import Callback, LightningDataModule, LightningModule

import lightning_adv.callbacks
import lightning_adv.modules  # noqa: F401 - a class is found only once it is imported
from lightning_adv.attacks import Attack
from lightning_adv.attacks.budget import as_text
from lightning_adv.backdoors import Trigger
from lightning_adv.cli.classes import concrete_subclasses, constructor_defaults
from lightning_adv.cli.wording import closest
from lightning_adv.data import Augmentation, Mixing
from lightning_adv.detectors import Detector
from lightning_adv.errors import InputError
from lightning_adv.fooling import Fooling
from lightning_adv.inspectors import Inspector
from lightning_adv.mitigations import Mitigation
from lightning_adv.models import list_models
from lightning_adv.objectives import Objective
from lightning_adv.purifiers import Prompter, Purifier
from lightning_adv.scans import Scan
from lightning_adv.screen import print_document, print_names

__all__ = ["KINDS", "MODELS", "help_page", "list_page", "names_of"]


@dataclass(frozen=True)
class _Kind:
    """A kind of classes, and where one of them is named on a command line."""

    base: type
    arguments: str
    """Dotted option in front of the arguments; NAME is the one that a configuration gives it."""
    chosen: str | None = None
    """Dotted option that takes the class, where there is one."""


KINDS = {
    "attacks": _Kind(Attack, "--trainer.callbacks.attacks.NAME", "--model.objective.attack"),
    "objectives": _Kind(Objective, "--model.objective", "--model.objective"),
    "triggers": _Kind(Trigger, "--data.trigger", "--data.trigger"),
    "inspectors": _Kind(Inspector, "--trainer.callbacks.inspectors.NAME"),
    "mitigations": _Kind(Mitigation, "--trainer.callbacks.mitigation"),
    "scans": _Kind(Scan, "--trainer.callbacks.scans.NAME"),
    "detectors": _Kind(Detector, "--trainer.callbacks.detectors.NAME"),
    "purifiers": _Kind(Purifier, "--trainer.callbacks.purifiers.NAME"),
    "prompts": _Kind(Prompter, "--trainer.callbacks.purifiers.NAME.prompts"),
    "fooling": _Kind(Fooling, "--trainer.callbacks.methods.NAME"),
    "data": _Kind(LightningDataModule, "--data", "--data"),
    "augmentations": _Kind(Augmentation, "--data.augment", "--data.augment"),
    "mixings": _Kind(Mixing, "--data.mix", "--data.mix"),
    "modules": _Kind(LightningModule, "--model", "--model"),
    "callbacks": _Kind(Callback, "--trainer.callbacks", "--trainer.callbacks+"),
}
MODELS = "models"
"""The one kind whose names are no classes: those of ``--model.backbone``."""
OWN = "lightning_adv."
PAPER = re.compile(r"\(([^()]+\b(?:19|20)\d\d[^()]*)\)")
AUTHORS = re.compile(r"((?:[A-Z]\w+,? )+(?:and [A-Z]\w+|et al\.)) \(((?:19|20)\d\d)\)")
BASE = "Base of"
"""How the docstring of a class begins that is to be derived from."""
PLAIN = (bool, int, float, str)


def list_page(args: list[str], as_json: bool = False) -> None:
    """Print the kinds, or the names of one kind with their papers: ``list``, ``list attacks``.

    Args:
        args: the command line without the program's name and the command.
        as_json: as JSON: kinds to names, or names to what is said of them.

    Raises:
        InputError: there is no such kind.
    """
    if not args:
        names = {kind: names_of(kind) for kind in (*KINDS, MODELS)}
        if as_json:
            print_document(names)
            return
        for kind, each in names.items():
            print(f"{kind:12} {', '.join(each)}{', and every name of timm.list_models()' if kind == MODELS else ''}")
        return
    if args[0] not in (*KINDS, MODELS):
        raise InputError(f"there is no kind {args[0]!r}; choose {', '.join((*KINDS, MODELS))}")
    if args[0] == MODELS:
        print_document(list_models()) if as_json else print("\n".join(list_models()))
        return
    said = {}
    for name, cls in _classes(args[0]).items():
        paper, says = _paper(cls), _says(cls)
        said[name] = _plain(f"{says} ({paper})" if paper and paper not in says else says)
    (print_document if as_json else print_names)(said)


def help_page(args: list[str]) -> None:
    """Print what a class does, its arguments with units and defaults, and how to write it: ``help PGD``.

    Args:
        args: the command line without the program's name and the command.

    Raises:
        InputError: no name, or one that nothing has.
    """
    if not args:
        raise InputError("help needs a name, such as PGD; lightning-adv list shows all there are")
    everything = {name: (kind, cls) for kind in KINDS for name, cls in _classes(kind).items()}
    if args[0] not in everything:
        meant = closest(args[0], everything)
        hint = f"did you mean {meant}?" if meant else "lightning-adv list shows all there are"
        raise InputError(f"nothing is called {args[0]!r}; {hint}")
    kind, cls = everything[args[0]]
    print("\n".join(_page(cls, KINDS[kind])))


def names_of(kind: str) -> list[str]:
    """What there is of a kind, by name."""
    return list_models() if kind == MODELS else list(_classes(kind))


def _classes(kind: str) -> dict[str, type]:
    """Those of this project, by name."""
    found = {cls.__name__: cls for cls in concrete_subclasses(KINDS[kind].base) if cls.__module__.startswith(OWN)}
    named = {name: cls for name, cls in found.items() if not name.startswith("_") and not _says(cls).startswith(BASE)}
    return dict(sorted(named.items()))


def _says(cls: type) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _paper(cls: type) -> str | None:
    """Authors and year, as its docstring or that of its module has them."""
    for text in (_says(cls), inspect.getdoc(sys.modules[cls.__module__]) or ""):
        text = " ".join(text.split())
        if found := AUTHORS.search(text):
            return f"{found[1]}, {found[2]}"
        if found := PAPER.search(text):
            return found[1]
    return None


def _page(cls: type, kind: _Kind) -> Iterator[str]:
    written, defaults = parse(inspect.getdoc(cls) or ""), constructor_defaults(f"{cls.__module__}.{cls.__name__}")
    yield f"{cls.__name__}: {_plain(_says(cls))}"
    if written.long_description:
        yield f"\n{_plain(written.long_description)}"
    if paper := _paper(cls):
        yield f"\nSource: {paper}"
    texts = _texts(cls)
    if defaults:
        yield "\narguments:"
    for name, default in defaults.items():
        needed = default is inspect.Parameter.empty
        yield f"  {name} ({'needed' if needed else f'default {_value(default)}'})"
        if texts.get(name):
            yield textwrap.fill(_plain(texts[name]), 100, initial_indent=6 * " ", subsequent_indent=6 * " ")
    shown = {name: _value(value) for name, value in defaults.items() if isinstance(value, PLAIN)}
    arguments = ", ".join(f"{name}: {value}" for name, value in shown.items())
    yield f"\nin a configuration:\n  {{class_path: {cls.__name__}, init_args: {{{arguments}}}}}"
    yield "on a command line:"
    if kind.chosen:
        yield f"  {kind.chosen}={cls.__name__}"
    for name, value in [*shown.items()][:1]:
        yield f"  {kind.arguments}.{name}={value}"


def _texts(cls: type) -> dict[str, str]:
    """What is written of each argument, by the class or by the base that hands it on."""
    texts: dict[str, str] = {}
    for each in inspect.getmro(cls):
        for param in parse(each.__doc__ or "").params if each.__module__.startswith(OWN) else ():
            for name in param.arg_name.split(","):
                texts.setdefault(name.strip(" *"), param.description or "")
    return texts


def _plain(text: str) -> str:
    """Without the marks of code."""
    return re.sub(r":\w+:`|`+", "", " ".join(text.split()) if "\n\n" not in text else text)


def _value(value: object) -> str:
    """As a configuration has it: lengths in pixel units as fractions.

    Example:
        >>> _value(8 / 255), _value(None), _value(0.2), _value(True), _value("a {}")
        ('8/255', 'null', '0.2', 'true', "'a {}'")
    """
    if isinstance(value, float) and as_text(value).endswith("/255"):
        return as_text(value)
    if value is None or isinstance(value, PLAIN):
        return yaml.safe_dump([value], default_flow_style=True, width=sys.maxsize).strip().strip("[]")
    return "[]" if value == () else str(value)
