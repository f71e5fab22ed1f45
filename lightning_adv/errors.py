"""The exceptions that end a command in one line."""

from typing import ClassVar

__all__ = ["HoldsCode", "InputError", "RankLost", "at_least_one"]


class InputError(ValueError):
    """A mistake in the configuration, the data, a checkpoint or an argument; the message names cause and remedy.

    ``train.py`` and ``evaluate.py`` print it as one line and exit with its status, without a traceback.
    """

    status: ClassVar[int] = 2


class HoldsCode(InputError):
    """A file that is audited holds more than data."""

    status: ClassVar[int] = 3


class RankLost(RuntimeError):
    """Another process of the run ended before its time; the message names it and says how."""


def at_least_one(**counts: int) -> None:
    """Refuse a count below 1, by the name of the argument.

    Raises:
        InputError: the first of them.
    """
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1, got {count}")
