"""The front of ``train.py``: its own help page comes up without Lightning, everything else is left to ``entry``."""

import sys

from jsonargparse import ActionConfigFile, ArgumentParser

from lightning_adv.cli.help import COMMANDS, TRAIN, HelpFormatter

__all__ = ["train"]


def train(args: list[str] | None = None) -> None:
    """Entry point of ``train.py``: fit, validate or test.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    args = sys.argv[1:] if args is None else args
    if args in (["-h"], ["--help"]):
        _program_page().print_help()
        return
    from lightning_adv.cli import entry

    entry.train(args)


def _program_page() -> ArgumentParser:
    """A parser with the options and commands of the real one, whose help page is the same to the letter."""
    page = ArgumentParser(prog="train.py", formatter_class=HelpFormatter, **TRAIN)
    page.add_argument(
        "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in json or yaml format."
    )
    commands = page.add_subcommands()
    for name, says in COMMANDS.items():
        commands.add_subcommand(name, ArgumentParser(), help=says)
    return page
