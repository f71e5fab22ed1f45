"""How callbacks of several configurations and of the command line come together.

A list of callbacks takes the place of the one before it; the parser alone would merge the two wherever the same class
stands at the same place of both. ``--trainer.callbacks.NAME=VALUE`` reaches the last callback that has an argument of
that name; the parser alone would hand it to the last callback of the list whether it has such an argument or not.
``--trainer.callbacks.WHO.NAME=VALUE`` reaches the callback that goes by the name of ``WHO`` in keys and reports, or the
last one of a class of that name.
"""

import contextlib
import io
import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning import Callback

from lightning_adv.callbacks import EpochEndEvaluation
from lightning_adv.cli.arguments import config_files
from lightning_adv.cli.classes import constructor_defaults, find_class
from lightning_adv.cli.wording import absent_argument, absent_callback

__all__ = ["parse_quietly", "replacing_callbacks", "route_callback_overrides"]

LIST = "--trainer.callbacks"
NONE = f"{LIST}=null"


def replacing_callbacks(args: list[str]) -> list[str]:
    """``args`` in which what was there before a list of callbacks is forgotten first."""
    replacing: list[str] = []
    for arg, following in pairwise([*args, ""]):
        typed = arg == LIST or arg.startswith(f"{LIST}=")
        named = arg.startswith(("--config", "-c")) and any(map(_lists_callbacks, _files_at(arg, following)))
        replacing += [NONE, arg] if typed or named else [arg]
    return replacing


def route_callback_overrides(parser: ArgumentParser, args: list[str]) -> list[str]:
    """``args`` in which an override that is not meant for the last callback is replaced by the list it results in."""
    routed: list[str] = []
    callbacks: list[dict] | None = None  # at this point of the command line
    exact = False  # but for values that have reached the last of them
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg.startswith(f"{LIST}.") and not arg.startswith(f"{LIST}.help"):
            override = [arg] if "=" in arg or not rest else [arg, rest.pop(0)]
            if callbacks is None:
                callbacks, exact = _callbacks(parser, routed), True
            taker, override[0] = _taker(callbacks, override[0])
            if taker is None and (wrong := _nobodys(callbacks, override[0])):
                parser.error(wrong)
            if taker is None:
                routed += override
                callbacks, exact = (None if "{" in override[-1] else callbacks), False  # it may bring names
            else:
                callbacks, exact = (callbacks if exact else _callbacks(parser, routed)), True
                routed, callbacks = _moved(parser, routed, callbacks, taker, override)
        else:
            routed.append(arg)
            callbacks = None if arg.startswith((LIST, "--config", "-c")) else callbacks
    return routed


def parse_quietly(parser: ArgumentParser, args: list[str]) -> Namespace | None:
    """The configuration of a command in ``args``; None where it is incomplete or wrong."""
    config = _parsed(parser, [arg for arg in args if not arg.startswith("--print_config")])
    return None if config is None else config[config.subcommand]


def _parsed(parser: ArgumentParser, args: list[str]) -> Namespace | None:
    if not args:
        return None
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parser.parse_args(args)
    except (ArgumentError, SystemExit):
        return None


def _files_at(arg: str, following: str) -> list[str]:
    """The configuration that an argument names, by itself or with the next one."""
    return config_files([arg] if "=" in arg else [arg, following])


def _lists_callbacks(file: str) -> bool:
    """Whether a configuration sets the callbacks; one that adds some has ``callbacks+``."""
    return "callbacks" in _of_trainer(file)


def _of_trainer(file: str) -> dict[str, object]:
    """What a configuration says of the trainer."""
    try:
        trainer = yaml.safe_load(Path(file).read_text(encoding="utf-8")).get("trainer")
    except (AttributeError, OSError, ValueError, yaml.YAMLError):  # the parser says what is wrong with it
        return {}
    return trainer if isinstance(trainer, dict) else {}


def _taker(callbacks: list[dict], override: str) -> tuple[int | None, str]:
    """Place of the callback that an override is meant for, None for the end, where the parser looks; and its words."""
    name, _, argument = override.removeprefix(f"{LIST}.").removeprefix("init_args.").partition(".")
    first = re.split(r"[.=]", argument)[0]
    takers = [place for place, each in enumerate(callbacks) if _goes_by(each, name) and _takes(each, first, name)]
    if takers:
        override = f"{LIST}.{argument}"
    else:
        name = name.split("=")[0]
        takers = [place for place, each in enumerate(callbacks) if name in constructor_defaults(each["class_path"])]
    return (takers[-1] if takers and takers[-1] < len(callbacks) - 1 else None), override


def _nobodys(callbacks: list[dict], override: str) -> str | None:
    """What to say of an override ``WHO.NAME`` that no callback takes; None where one does, or the parser says it."""
    name, _, argument = override.partition("=")[0].removeprefix(f"{LIST}.").removeprefix("init_args.").partition(".")
    if not argument:
        return None
    known = {each["class_path"]: constructor_defaults(each["class_path"]) for each in callbacks}
    if not all(known.values()) or any(name in arguments for arguments in known.values()):
        return None
    owners = [each["class_path"] for each in callbacks if _goes_by(each, name)]
    first = argument.partition(".")[0]
    if not owners:
        return absent_callback(f"{LIST[2:]}.{name}", name, [each.rpartition(".")[2] for each in known])
    if all(first not in known[each] for each in owners):
        return absent_argument(f"{LIST[2:]}.{name}", owners[-1].rpartition(".")[2], first, list(known[owners[-1]]))
    return None


def _goes_by(callback: dict, name: str) -> bool:
    cls = find_class(callback["class_path"])
    default = cls.default_name if cls is not None and issubclass(cls, EpochEndEvaluation) else None
    own = (callback.get("init_args") or {}).get("name") or default
    return name in (own, callback["class_path"].rpartition(".")[2])


def _takes(callback: dict, argument: str, name: str) -> bool:
    """Whether a callback takes an argument, and has no item of that name in one that is called as it is."""
    items = (callback.get("init_args") or {}).get(name)
    return argument in constructor_defaults(callback["class_path"]) and argument not in (items or {})


def _moved(
    parser: ArgumentParser, before: list[str], callbacks: list[dict], taker: int, override: list[str]
) -> tuple[list[str], list[dict]]:
    """Let the parser override the callback at the end of the list, then put it back; the command and the list then.

    The list is empty where an override was wrong, which the parser will say.
    """
    if not callbacks:
        return [*before, *override], []
    if before[-1] == _as_argument(callbacks):  # which this list takes the place of
        before = before[:-1]
    others = [*callbacks[:taker], *callbacks[taker + 1 :]]
    at_the_end = [*before, _as_argument([*others, callbacks[taker]]), *override]
    changed = _callbacks(parser, at_the_end)
    if not changed:
        return at_the_end, []
    others.insert(taker, changed[-1])
    return [*before, _as_argument(others)], others


def _callbacks(parser: ArgumentParser, args: list[str]) -> list[dict]:
    """The list that ``args`` result in, as plain data."""
    said = _of_the_list(args)
    config = parse_quietly(parser, args) if said is None else _parsed(_parser_of_the_list(), said)
    if config is None or not isinstance(config.get("trainer.callbacks"), list):
        return []
    return _plain(config["trainer.callbacks"])


@cache
def _parser_of_the_list() -> ArgumentParser:
    """Knows the callbacks alone: a whole command takes it several times as long."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(LIST, type=list[Callback] | Callback | None)
    return parser


def _of_the_list(args: list[str]) -> list[str] | None:
    """What of a command concerns the callbacks, configurations written out; None where more is needed to tell."""
    said: list[str] = []
    for arg, following in pairwise([*args, ""]):
        if arg.split("=")[0] == "--trainer":
            return None
        if arg.startswith(LIST):
            said += [arg] if "=" in arg else [arg, following]
        elif arg.startswith(("--config", "-c")):
            for file in _files_at(arg, following):
                lists = {key: value for key, value in _of_trainer(file).items() if key in ("callbacks", "callbacks+")}
                if not all(isinstance(each, list | dict | None) for each in lists.values()):
                    return None
                said += [f"--trainer.{key}={json.dumps(value, default=str)}" for key, value in lists.items()]
    return said


def _plain(value: object) -> object:
    if isinstance(value, (Namespace, dict)):
        return {key: _plain(each) for key, each in (vars(value) if isinstance(value, Namespace) else value).items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _as_argument(callbacks: list[dict]) -> str:
    return f"{LIST}={json.dumps(callbacks, default=str)}"
