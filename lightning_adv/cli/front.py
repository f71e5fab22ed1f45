"""The front of ``train.py``: its own help page comes up without Lightning, everything else is left to ``entry``."""

import argparse
import re
import sys

from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter

from lightning_adv.cli.help import COMMANDS, TRAIN

__all__ = ["HelpFormatter", "train"]


class HelpFormatter(DefaultHelpFormatter):
    """Help that keeps the line breaks of descriptions and names classes without their modules."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        text = re.sub(r"\b(?:lightning_adv|pytorch_lightning|torch)(?:\.\w+)*\.(\w+)", r"\1", text)
        text = re.sub(r"(known subclasses: )(LightningModule|LightningDataModule), ", r"\1", text)
        text = re.sub(r"Optional\[(\w+)\]|(\w+) \| null", r"\1\2", text)
        return re.sub(r" \(default: null\)|, default: null\b", "", text)


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
