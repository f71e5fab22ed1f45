"""The one exception that a user's mistake raises."""

__all__ = ["InputError"]


class InputError(ValueError):
    """A mistake in the configuration, the data, a checkpoint or an argument; the message names cause and remedy.

    ``train.py`` and ``evaluate.py`` print it as one line and exit with status 2, without a traceback.
    """
