"""The front of the program: what needs no Lightning is answered without it, everything else is left to ``entry``.

Lightning takes seconds to import. Help pages and slips of a configuration come up at once, from what an earlier start
has kept.
"""

import os
import sys
from contextlib import suppress
from functools import partial
from itertools import pairwise

from jsonargparse import ActionConfigFile, ArgumentParser

from lightning_adv.cli.arguments import check_config_files, config_files
from lightning_adv.cli.board import leaderboard
from lightning_adv.cli.configs import configs, with_files
from lightning_adv.cli.document import JSON
from lightning_adv.cli.early import first_slip
from lightning_adv.cli.help import COMMANDS, OTHERS, PROGRAM, TRAIN, HelpFormatter, as_called
from lightning_adv.cli.kept import keep, print_kept, recall
from lightning_adv.cli.runs import is_first_rank
from lightning_adv.errors import InputError
from lightning_adv.interruption import LAUNCHER

__all__ = ["audit", "evaluate", "program", "train"]

FLAGS = (JSON, "--print_config", "-h", "--help")
"""Options that take no value."""
HELP = (["-h"], ["--help"])
CLASSES = "classes"
"""The part of what is kept that says what may be named."""


def program(args: list[str] | None = None) -> None:
    """Entry point of ``lightning-adv``: all that ``train.py``, ``evaluate.py`` and ``audit.py`` do, and more.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    if args is None:
        args = sys.argv[1:] = _command_first(sys.argv[1:])  # other ranks are started, and runs gone on with, by these
    if args in ([], *HELP):
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
    if args in HELP:
        page = _page(TRAIN, COMMANDS)
        page.add_argument(
            "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in json or yaml format."
        )
        page.print_help()
        return
    _enter("train", args, is_page=args[:1] != [] and args[0] in COMMANDS and args[1:] in HELP)


def evaluate(args: list[str] | None = None) -> None:
    """Entry point of ``evaluate.py``: the evaluation callbacks on a checkpoint or on bare weights.

    Where the user does not say otherwise, the evaluations are those that the model was trained with; where there are
    none, those of the configuration ``evaluate/standard``.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    args = sys.argv[1:] if args is None else args
    _enter("evaluate", args, is_page=args in HELP)


def audit(args: list[str] | None = None) -> None:
    """Entry point of ``audit.py``: three questions to a stranger's file, on one page.

    The evaluations are those of the configuration ``evaluate/audit``, whatever a checkpoint says of its training.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    args = sys.argv[1:] if args is None else args
    _enter("audit", args, is_page=args in HELP)


def _enter(command: str, args: list[str], is_page: bool) -> None:
    """Leave it to ``entry``, unless what an earlier start has kept is enough to answer."""
    starts = _starts()
    if starts:
        _refuse_slips(args)
    doing = partial(_do, command, args, starts and args[:1] == ["fit"] and config_files(args) != [])
    print_kept([command, *args], doing) if starts and is_page else doing()


def _do(command: str, args: list[str], learns: bool) -> None:
    _tell_loading()
    from lightning_adv.cli import entry

    if learns and recall(CLASSES) is None:
        from lightning_adv.cli.learning import learnt

        entry.quiet()
        with suppress(Exception):  # no run depends on what it would have kept for the next one
            keep(CLASSES, learnt())
    {"train": entry.train, "evaluate": entry.evaluate, "audit": entry.audit}[command](args)


def _starts() -> bool:
    """Whether this process has yet to import what takes long and what could bring classes, and speaks for all ranks."""
    return "torch" not in sys.modules and is_first_rank() and LAUNCHER not in os.environ


def _refuse_slips(args: list[str]) -> None:
    """End with a slip that can be told by now, in the words that it would be told in later."""
    try:
        read = with_files(args)
        check_config_files(read)
    except InputError as error:
        _refuse(str(error))
    slip = first_slip(read, recall(CLASSES)) if args[:1] == ["fit"] else None
    if slip is not None:
        _refuse(slip)


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
    if args[:1] in HELP:
        print(f"lightning-adv {what}: {OTHERS[what]}")
        return
    if what == "help" and args and args[0] in {**COMMANDS, **OTHERS}:
        program([args[0], "--help"])
        return
    tell = partial(_tell, what, args)
    print_kept([what, *args], tell) if what in ("list", "help") and _starts() else tell()


def _tell(what: str, args: list[str]) -> None:
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
