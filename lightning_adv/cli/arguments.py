"""What is read from a command line before it is parsed."""

from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import yaml

from lightning_adv.errors import InputError

__all__ = [
    "check_config_files",
    "config_files",
    "option",
    "options",
    "own_architecture",
    "through_first_config",
    "without_option",
]

BACKBONE = "--model.backbone"


def option(args: list[str], name: str) -> str | None:
    """Value of ``--name value`` or ``--name=value``, the last one given."""
    values = options(args, name)
    return values[-1] if values else None


def options(args: list[str], name: str) -> list[str]:
    """Values of all ``--name value`` and ``--name=value``, in order."""
    return _values(args, (name,))


def config_files(args: list[str]) -> list[str]:
    """The files of all ``--config`` and ``-c``, in order."""
    return _values(args, ("--config", "-c"))


def without_option(args: list[str], name: str) -> list[str]:
    """``args`` without ``--name value`` and ``--name=value``."""
    kept = [arg for arg, before in zip(args, ["", *args], strict=False) if name not in (arg, before)]
    return [arg for arg in kept if not arg.startswith(f"{name}=")]


def through_first_config(args: list[str]) -> list[str]:
    """The command and its first configuration, without anything that overrides it."""
    files = config_files(args)
    return [args[0], "--config", files[0]] if args and files else []


def own_architecture(args: list[str]) -> list[str]:
    """``args`` in which ``--model.backbone=my_package.Net`` names a class, where there is such a package.

    The parser would take it for the name of a network, as "resnet18.a1_in1k" is one.
    """
    name = option(args, BACKBONE) or ""
    root, dot, _ = name.partition(".")
    if not dot or not all(part.isidentifier() for part in name.split(".")) or find_spec(root) is None:
        return args
    kept = without_option(args, BACKBONE)
    place = min(args.index(each) for each in args if each == BACKBONE or each.startswith(f"{BACKBONE}="))
    return [*kept[:place], f"{BACKBONE}.class_path={name}", *kept[place:]]


def check_config_files(args: list[str]) -> None:
    """Refuse a configuration that is not there or cannot be read; the parser would not say which one it is.

    Raises:
        InputError: no such file, no YAML, or YAML that is not a mapping.
    """
    for name in config_files(args):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"there is no configuration file {name}; lightning-adv configs lists those with names")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
            raise InputError(f"{name} is not valid YAML:{line} {error.problem}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{name} is not a YAML text: {str(error).splitlines()[0]}") from error
        if not isinstance(content, dict):
            raise InputError(f"{name} must hold settings such as 'data: MNISTSubset', got {type(content).__name__}")


def _values(args: list[str], names: tuple[str, ...]) -> list[str]:
    values = []
    for arg, following in zip_longest(args, args[1:]):
        if arg in names and following is not None:
            values.append(following)
        elif arg.startswith(tuple(f"{name}=" for name in names)):
            values.append(arg.partition("=")[2])
    return values
