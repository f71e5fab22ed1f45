"""Numbers as the field writes them: ``8/255``."""

from lightning_adv.errors import InputError

__all__ = ["Budget", "as_eps", "as_float", "as_text"]

Budget = float | str
"""A length in pixel units of [0, 1]: a number, or a fraction such as ``"8/255"``."""


def as_float(name: str, value: Budget) -> float:
    """Read ``8/255`` or ``0.03`` as a float; ``name`` is the argument that the error speaks of.

    Raises:
        InputError: the text is not a number or a fraction of two numbers.
    """
    numerator, slash, denominator = str(value).partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{name} must be a number or a fraction such as 8/255, got {value!r}") from None


def as_eps(value: Budget, norm: str) -> float:
    """Read the radius of a ball and refuse one that cannot be meant.

    Raises:
        InputError: negative, not finite, or above 1 under ``Linf`` (where 1 already reaches every image).
    """
    eps = as_float("eps", value)
    if not 0 <= eps < float("inf"):
        raise InputError(
            f"eps must be finite and not negative, got {value}; it is the radius of the ball in pixel units of [0, 1]"
        )
    if norm == "Linf" and eps > 1:
        raise InputError(
            f"eps must lie in [0, 1] for Linf, got {value}: images are in [0, 1], "
            f"so 8 grey levels are written 8/255 (did you mean {eps:g}/255?)"
        )
    return eps


def as_text(value: float) -> str:
    """Write a length the short way: ``8/255`` where it is a small whole number of grey levels, else three digits."""
    levels = value * 255
    if 0 < levels < 33 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{value:.3g}"
