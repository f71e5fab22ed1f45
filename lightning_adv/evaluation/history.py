"""Scalars over epochs, as a callback's state keeps them."""

from lightning_adv.errors import InputError

__all__ = ["stored_history"]


def stored_history(state: dict) -> dict[str, list[list[float]]]:
    """The history of scalars in a callback's state, which a checkpoint may hold anything in place of.

    Raises:
        InputError: no points of an epoch and a number by the name of a scalar.
    """
    history = state.get("history") if isinstance(state, dict) else None
    if not isinstance(history, dict) or not all(_is_curve(key, points) for key, points in history.items()):
        raise InputError(
            "the checkpoint's callbacks keep no history of scalars as they should: take another checkpoint"
        )
    return history


def _is_curve(key: object, points: object) -> bool:
    """Whether these are a name and at least one pair of an epoch and a number."""
    pairs = [each for each in points if isinstance(each, list | tuple)] if isinstance(points, list) else []
    numbers = [pair for pair in pairs if list(map(type, pair)) in ([int, float], [int, int])]
    return isinstance(key, str) and bool(numbers) and len(numbers) == len(points)
