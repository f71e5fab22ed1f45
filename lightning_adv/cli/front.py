"""The front of the program: its help page comes up without Lightning, everything else is left to ``entry``."""

import sys

from jsonargparse import ActionConfigFile, ArgumentParser

from lightning_adv.cli.board import leaderboard
from lightning_adv.cli.configs import configs
from lightning_adv.cli.help import COMMANDS, OTHERS, PROGRAM, TRAIN, HelpFormatter, as_called
from lightning_adv.errors import InputError

__all__ = ["program", "train"]


def program(args: list[str] | None = None) -> None:
    """Entry point of ``lightning-adv``: all that ``train.py``, ``evaluate.py`` and ``audit.py`` do, and more.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    args = sys.argv[1:] if args is None else args
    if args in ([], ["-h"], ["--help"]):
        _page(PROGRAM, {**COMMANDS, **OTHERS}).print_help()
    elif args[0] in ("configs", "list", "help"):
        _show(*args)
    elif args[0] == "leaderboard":
        leaderboard(args[1:])
    elif args[0] in OTHERS:
        from lightning_adv.cli import entry

        {"evaluate": entry.evaluate, "audit": entry.audit}[args[0]](args[1:])
    elif args[0] in COMMANDS or args[0].startswith("-"):
        train(args)
    else:
        _refuse(f"there is no command {args[0]!r}; choose {', '.join((*COMMANDS, *OTHERS))}")


def train(args: list[str] | None = None) -> None:
    """Entry point of ``train.py``: fit, validate or test.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    args = sys.argv[1:] if args is None else args
    if args in (["-h"], ["--help"]):
        page = _page(TRAIN, COMMANDS)
        page.add_argument(
            "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in json or yaml format."
        )
        page.print_help()
        return
    from lightning_adv.cli import entry

    entry.train(args)


def _show(what: str, *args: str) -> None:
    if args[:1] in (("-h",), ("--help",)):
        print(f"lightning-adv {what}: {OTHERS[what]}")
        return
    if what == "help" and args and args[0] in {**COMMANDS, **OTHERS}:
        program([args[0], "--help"])
        return
    try:
        if what == "configs":
            configs(list(args))
            return
        from lightning_adv.cli.catalogue import help_page, list_page

        {"list": list_page, "help": help_page}[what](list(args))
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
