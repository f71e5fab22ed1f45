"""The one exception that a user's mistake raises."""

__all__ = ["InputError", "at_least_one"]


class InputError(ValueError):
    """A mistake in the configuration, the data, a checkpoint or an argument; the message names cause and remedy.

    ``train.py`` and ``evaluate.py`` print it as one line and exit with status 2, without a traceback.
    """


def at_least_one(**counts: int) -> None:
    """Refuse a count below 1, by the name of the argument.

    Raises:
        InputError: the first of them.
    """
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1, got {count}")
