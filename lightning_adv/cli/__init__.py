"""The command line; Lightning is imported when something is to be done, not for a help page."""

from importlib import import_module
from typing import TYPE_CHECKING

from lightning_adv.cli.front import program, train

if TYPE_CHECKING:
    from lightning_adv.cli.app import CLI
    from lightning_adv.cli.board import leaderboard
    from lightning_adv.cli.entry import audit, evaluate

__all__ = ["CLI", "audit", "evaluate", "leaderboard", "program", "train"]

_HOMES = {"CLI": "app", "audit": "entry", "evaluate": "entry", "leaderboard": "board"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return vars(import_module(f"{__name__}.{_HOMES[name]}"))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
