"""Shares of counted samples: how they are written and how certain they are."""

from collections.abc import Sequence

__all__ = ["percent", "percent_interval", "wilson_interval", "without_images"]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson, 1927): stays inside [0, 1] and keeps a width at shares of 0 and 1.

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
    from scipy.stats import binomtest  # takes a second to import, which only a report needs

    found = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


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


def without_images(per_class_samples: Sequence[int]) -> str:
    """How many classes a table by class leaves out, in words; nothing where it leaves out none.

    Example:
        >>> without_images([3, 0, 2])
        '2 of 3 classes have images.'
    """
    count = sum(samples > 0 for samples in per_class_samples)
    whole = count == len(per_class_samples)
    return "" if whole else f"{count:,} of {len(per_class_samples):,} classes have images."
