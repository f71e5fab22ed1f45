"""Shares of counted samples: how they are written and how certain they are."""

from math import sqrt
from statistics import NormalDist

__all__ = ["percent", "percent_interval", "wilson_interval"]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson, 1927): stays inside [0, 1] and keeps a width at shares of 0 and 1.

        (p + z^2/2n  -+  z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Args:
        successes: how many of the trials succeeded.
        trials: number of independent trials, at least 1.
        confidence: coverage, e.g. 0.95.

    Example:
        >>> low, high = wilson_interval(80, 100)
        >>> f"{low:.4f} {high:.4f}"
        '0.7112 0.8666'
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"an interval needs 0 <= successes <= trials and a trial, got {successes} of {trials}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage with one decimal; a dash where nothing was measured.

    Example:
        >>> percent(0.8125), percent(None)
        ('81.2%', '–')
    """
    return "\N{EN DASH}" if share is None or share != share else f"{100 * share:.1f}%"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """Both ends of an interval of shares as percentages with one decimal, e.g. ``"71.1–86.7%"``."""
    return "\N{EN DASH}" if interval is None else f"{100 * interval[0]:.1f}\N{EN DASH}{100 * interval[1]:.1f}%"
