"""The front of the program: its help page comes up without Lightning, everything else is left to ``entry``."""

import sys
from functools import partial
from itertools import pairwise

from jsonargparse import ActionConfigFile, ArgumentParser

from lightning_adv.cli.board import leaderboard
from lightning_adv.cli.configs import configs
from lightning_adv.cli.document import JSON
from lightning_adv.cli.help import COMMANDS, OTHERS, PROGRAM, TRAIN, HelpFormatter, as_called
from lightning_adv.cli.runs import is_first_rank
from lightning_adv.errors import InputError

__all__ = ["audit", "evaluate", "program", "train"]

FLAGS = (JSON, "--print_config", "-h", "--help")
"""Options that take no value."""


def program(args: list[str] | None = None) -> None:
    """Entry point of ``lightning-adv``: all that ``train.py``, ``evaluate.py`` and ``audit.py`` do, and more.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    if args is None:
        args = sys.argv[1:] = _command_first(sys.argv[1:])  # other ranks are started, and runs gone on with, by these
    if args in ([], ["-h"], ["--help"]):
        _page(PROGRAM, {**COMMANDS, **OTHERS}).print_help()
        return
    command, *rest = args = _command_first(args)
    if command in ("configs", "list", "help", "completion"):
        _show(command, rest)
    elif command in OTHERS:
        {"evaluate": evaluate, "audit": audit, "leaderboard": leaderboard}[command](rest)
    elif command in COMMANDS or command.startswith("-"):
        train(args)
    else:
        _refuse(f"there is no command {command!r}; choose {', '.join((*COMMANDS, *OTHERS))}")


def train(args: list[str] | None = None) -> None:
    """Entry point of ``train.py``: fit, validate or test.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    if args is None:
        args = sys.argv[1:] = _command_first(sys.argv[1:])
    if args in (["-h"], ["--help"]):
        page = _page(TRAIN, COMMANDS)
        page.add_argument(
            "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in json or yaml format."
        )
        page.print_help()
        return
    _tell_loading()
    from lightning_adv.cli import entry

    entry.train(args)


def evaluate(args: list[str] | None = None) -> None:
    """Entry point of ``evaluate.py``: the evaluation callbacks on a checkpoint or on bare weights.

    Where the user does not say otherwise, the evaluations are those that the model was trained with; where there are
    none, those of the configuration ``evaluate/standard``.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    _tell_loading()
    from lightning_adv.cli import entry

    entry.evaluate(sys.argv[1:] if args is None else args)


def audit(args: list[str] | None = None) -> None:
    """Entry point of ``audit.py``: three questions to a stranger's file, on one page.

    The evaluations are those of the configuration ``evaluate/audit``, whatever a checkpoint says of its training.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    _tell_loading()
    from lightning_adv.cli import entry

    entry.audit(sys.argv[1:] if args is None else args)


def _tell_loading() -> None:
    """Something on a screen at once: what follows takes seconds."""
    if sys.stderr.isatty() and is_first_rank() and "pytorch_lightning" not in sys.modules:
        sys.stderr.write("loading torch and Lightning\n")


def _command_first(args: list[str]) -> list[str]:
    """``args`` with what stands before the command moved behind it: ``--config demo fit`` is ``fit --config demo``.

    Example:
        >>> _command_first(["--config", "demo", "--run=here", "fit", "--json"])
        ['fit', '--config', 'demo', '--run=here', '--json']
    """
    for place, (before, arg) in enumerate(pairwise(["", *args])):
        takes_it = before.startswith("-") and "=" not in before and before not in FLAGS
        if arg in (*COMMANDS, *OTHERS) and not takes_it:
            return [arg, *args[:place], *args[place + 1 :]] if args[0].startswith("-") else args
    return args


def _show(what: str, args: list[str]) -> None:
    if args[:1] in (["-h"], ["--help"]):
        print(f"lightning-adv {what}: {OTHERS[what]}")
        return
    if what == "help" and args and args[0] in {**COMMANDS, **OTHERS}:
        program([args[0], "--help"])
        return
    as_json, args = JSON in args, [arg for arg in args if arg != JSON]
    try:
        if what == "configs":
            configs(args, as_json)
            return
        _tell_loading()
        from lightning_adv.cli.catalogue import help_page, list_page
        from lightning_adv.cli.completion import completion

        {"list": partial(list_page, as_json=as_json), "help": help_page, "completion": completion}[what](args)
    except InputError as error:
        _refuse(str(error))


def _refuse(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(InputError.status)


def _page(texts: dict[str, str], says: dict[str, str]) -> ArgumentParser:
    """A parser with the commands of the real one, whose help page is the same to the letter."""
    texts = {key: as_called(text) for key, text in texts.items()}
    page = ArgumentParser(prog="train.py", formatter_class=HelpFormatter, **texts)
    commands = page.add_subcommands()
    for command, what in says.items():
        commands.add_subcommand(command, ArgumentParser(), help=what)
    return page
