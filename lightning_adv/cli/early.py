"""Slips of a configuration that can be told before Lightning is imported, from what an earlier start has kept.

What is said here is what the parser would say: a class that there is not, an argument that its class does not have, an
option that there is not. Nothing that a file names is imported, and what is not known for sure is left to the parser.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import yaml

from lightning_adv.cli.arguments import config_files
from lightning_adv.cli.wording import absent_argument, absent_class, absent_option

__all__ = ["first_slip"]

DOTTED = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]")
"""In a value that may be a class of the user's: its module may bring others."""
OF_PARSER = ("config", "fit", "validate", "test")
"""Keys at the top that are no options."""
CLASS_KEYS = {"class_path", "init_args"}


class _NotKnown(Exception):
    """Something that only the parser can judge."""


def first_slip(args: list[str], known: object) -> str | None:
    """The one slip of the first configuration that has any, else of the options; None where there are more, or doubts.

    Args:
        args: of ``fit``; its configurations are files that can be read.
        known: what :func:`lightning_adv.cli.learning.learnt` returned in an earlier start.
    """
    files = config_files(args)
    try:
        if any(_may_bring_classes(arg) for before, arg in pairwise(["", *args]) if not _names_a_file(before, arg)):
            return None
        for file in files:
            slips = [*_in_file(yaml.safe_load(Path(file).read_text(encoding="utf-8")), known)]
            if slips:
                return slips[0] if len(slips) == 1 else None
        slips = [*_in_options(args[1:], known)]
    except (_NotKnown, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError):  # also a damaged index
        return None
    return slips[0] if len(slips) == 1 else None


def _names_a_file(before: str, arg: str) -> bool:
    return bool(config_files([before, arg]) if before in ("--config", "-c") else config_files([arg, ""]))


def _may_bring_classes(arg: str) -> bool:
    return DOTTED.search(arg.partition("=")[2] if arg.startswith("-") else arg) is not None


def _in_file(content: dict, known: dict) -> Iterator[str]:
    options, places = known["options"], known["places"]
    for key, value in content.items():
        if key in places[""]:
            yield from _at(key, value, places[""][key], known)
        elif key in OF_PARSER:
            raise _NotKnown
        elif isinstance(value, dict) and any(option.startswith(f"{key}.") for option in options):
            yield from _in_group(key, value, known)
        elif key not in options and value != {}:
            yield absent_option("", key, options)


def _in_group(group: str, content: dict, known: dict) -> Iterator[str]:
    """Options under one key, such as those of the trainer."""
    for key, value in content.items():
        name = key.removesuffix("+")
        place = known["places"].get(group, {}).get(name)
        if place is not None:
            yield from _at(f"{group}.{name}", value, place, known)
        elif f"{group}.{name}" not in known["options"]:
            if isinstance(value, dict):
                raise _NotKnown
            yield absent_option("", f"{group}.{key}", known["options"])


def _in_options(args: list[str], known: dict) -> Iterator[str]:
    """Options that there are not, and classes of the places that every run has."""
    for arg, following in pairwise([*args, ""]):
        if not arg.startswith("--"):
            continue
        name, equals, value = arg[2:].partition("=")
        plain = name.removesuffix("+")
        head, _, rest = plain.partition(".")
        place = known["places"][""].get(plain) or known["places"].get(head, {}).get(rest)
        if place is not None:
            value = yaml.safe_load(value if equals else following)
            yield from _at(plain, value, place, known) if isinstance(value, str) else ()
        elif head not in known["places"][""] and _upwards(plain).isdisjoint(known["options"]):
            yield absent_option("--", name, known["options"])


def _upwards(name: str) -> set[str]:
    """A dotted name, and those of what it may belong to below its group.

    Example:
        >>> sorted(_upwards("trainer.strategy.timeout"))
        ['trainer.strategy', 'trainer.strategy.timeout']
    """
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(min(2, len(parts)), len(parts) + 1)}


def _at(where: str, value: object, place: list, known: dict) -> Iterator[str]:
    """Slips in a value where classes of one base may stand."""
    base, shapes = place
    if isinstance(value, list) and "list" in shapes:
        for each in value:
            yield from _one(where, each, base, known)
    elif isinstance(value, dict) and "class_path" not in value and "dict" in shapes:
        for each in value.values():
            yield from _one(where, each, base, known)
    elif "one" in shapes:
        yield from _one(where, value, base, known)


def _one(where: str, value: object, base: str, known: dict) -> Iterator[str]:
    """Slips in one class and its arguments; a mapping without its name is for a class that something else names."""
    if isinstance(value, str):
        _, absent = _class(where, value, base, known)
        yield from absent
    if not isinstance(value, dict) or "class_path" not in value:
        return
    if not value.keys() <= CLASS_KEYS:
        raise _NotKnown
    owner, absent = _class(where, value["class_path"], base, known)
    yield from absent
    own, arguments = known["arguments"].get(owner), value.get("init_args") or {}
    for name, each in arguments.items() if own else ():
        if name in own:
            place = known["places"].get(owner, {}).get(name)
            yield from _at(f"{where}.{name}", each, place, known) if place else ()
        elif isinstance(each, dict) or name.removesuffix("+") in own:
            raise _NotKnown
        else:
            yield absent_argument(where, owner, name, own)


def _class(where: str, path: str, base: str, known: dict) -> tuple[str | None, list[str]]:
    """The name of a class that is known, or what is to be said of one that there is not."""
    if "." in path:
        if path not in known["paths"]:
            raise _NotKnown
        return known["paths"][path], []
    if path in known["all"]:
        return path, []
    if not path.isidentifier() or Path(path).exists():
        raise _NotKnown
    return None, [absent_class(where, path, known["names"][base])]
