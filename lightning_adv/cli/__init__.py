"""The command line; Lightning is imported when something is to be done, not for a help page."""

from importlib import import_module
from typing import TYPE_CHECKING

from lightning_adv.cli.board import leaderboard
from lightning_adv.cli.front import audit, evaluate, program, train

if TYPE_CHECKING:
    from lightning_adv.cli.app import CLI

__all__ = ["CLI", "audit", "evaluate", "leaderboard", "program", "train"]


def __getattr__(name: str) -> object:
    if name == "CLI":
        return vars(import_module(f"{__name__}.app"))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
