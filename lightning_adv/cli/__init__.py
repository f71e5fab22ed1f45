"""The command line."""

from lightning_adv.cli.app import CLI
from lightning_adv.cli.entry import evaluate, train

__all__ = ["CLI", "evaluate", "train"]
