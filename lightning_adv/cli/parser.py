"""A parser with short errors and a help page that starts with what a newcomer needs."""

import argparse
import sys
from typing import NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from lightning_adv.cli.help import COMMANDS
from lightning_adv.cli.messages import from_parsing

__all__ = ["Parser"]

TITLES = {
    "model": "model (a class; its arguments follow as --model.NAME, see --model.help ClassifierModule)",
    "data": "data (a class; its arguments follow as --data.NAME, see --data.help CIFAR10)",
    "last_checkpoint": "the checkpoint that --ckpt_path last resumes from",
    "trainer": "trainer (the arguments of Lightning's Trainer)",
    "links": "Linked arguments",
}
"""Headings of the argument groups in the order of the help page."""


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
        for parser in (parser for action in self._commands() for parser in action.choices.values()):
            names.extend(parser.option_names())
        return names

    def _commands(self) -> list[argparse._SubParsersAction]:
        return [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]

    def format_help(self) -> str:
        """The help page: general options, model and data first, the trainer's many arguments behind them."""
        for choice in (choice for action in self._commands() for choice in action._choices_actions):
            choice.help = COMMANDS[choice.dest]
        for key, group in self.groups.items():
            group.title = TITLES.get(key, group.title)
        order = list(TITLES.values())
        self._action_groups.sort(key=lambda group: order.index(group.title) if group.title in order else -1)
        return super().format_help()
