"""The command line."""

from lightning_adv.cli.app import CLI, evaluate, train

__all__ = ["CLI", "evaluate", "train"]
