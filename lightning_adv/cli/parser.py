"""A parser with short errors and a help page that starts with what a newcomer needs."""

import argparse
import re
import sys
from typing import NoReturn

from jsonargparse import DefaultHelpFormatter
from pytorch_lightning.cli import LightningArgumentParser

from lightning_adv.cli.help import COMMANDS
from lightning_adv.cli.messages import from_parsing

__all__ = ["HelpFormatter", "Parser"]

TITLES = {
    "model": "model (a class; its arguments follow as --model.NAME, see --model.help ClassifierModule)",
    "data": "data (a class; its arguments follow as --data.NAME, see --data.help CIFAR10)",
    "last_checkpoint": "the checkpoint that --ckpt_path last resumes from",
    "trainer": "trainer (the arguments of Lightning's Trainer)",
    "links": "Linked arguments",
}
"""Headings of the argument groups in the order of the help page."""


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


class Parser(LightningArgumentParser):
    """LightningCLI's parser with one-line errors and an ordered help page."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one readable message and exit with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        sys.stderr.write(f"error: {from_parsing(message, self.option_names())}\n")
        self.exit(2)

    def option_names(self) -> list[str]:
        """Dotted names of all options, those of subcommands too, without dashes."""
        names = [option.lstrip("-") for action in self._actions for option in action.option_strings]
        for action in self._actions:
            for parser in getattr(action, "_name_parser_map", {}).values():
                names.extend(parser.option_names())
        return names

    def format_help(self) -> str:
        """The help page: general options, model and data first, the trainer's many arguments behind them."""
        for choice in (choice for action in self._actions for choice in getattr(action, "_choices_actions", ())):
            choice.help = COMMANDS[choice.dest]
        for key, group in self.groups.items():
            group.title = TITLES.get(key, group.title)
        order = list(TITLES.values())
        self._action_groups.sort(key=lambda group: order.index(group.title) if group.title in order else -1)
        return super().format_help()
