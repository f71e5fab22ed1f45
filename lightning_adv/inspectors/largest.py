"""Which of K values is too large: the rule of MM-BD and one that is corrected for how few values there are.

    p = 1 - G(largest)^K,    G the Gamma distribution, of free location, that is fitted to the other K - 1 values

MM-BD (Wang et al., 2024) raises its alarm where p is below .05. A fit of three parameters to nine numbers is too close
to them, so that it does so for far more than one in twenty clean models. The corrected verdict asks how far a value x
lies from the n others, and takes their spread for as uncertain as it is:

    index = (x - mean) / (s sqrt(1 + 1/n)),    p = K P(T_{n - 1} >= index),    T of Student

For Gaussian values that is Grubbs' test (1950): no more than alpha of clean models are flagged.
"""

from collections.abc import Sequence

import numpy as np

from lightning_adv.errors import InputError
from lightning_adv.inspectors.outliers import Outliers

__all__ = ["FEWEST", "find_largest"]

FEWEST = 4
"""Values, among which one can be too large: three others have a spread."""

ROUNDING = 1e-6
"""Share of the largest value, which the spread of equal ones may be."""

SMALLEST = 1e-30
"""Spread of values that are all 0."""


def find_largest(values: Sequence[float], *, alpha: float = 0.05, alarm: float = 0.05) -> Outliers:
    """Judge the values of K classes, of which a large one is suspicious.

    Args:
        values: [K]; those that are no finite numbers take no part.
        alpha: level of the corrected verdict.
        alarm: p-value below which the paper's rule flags.

    Raises:
        InputError: no value.

    Example:
        >>> find_largest([5.0, 5.2, 4.9, 5.1, 4.8, 5.3, 5.0, 9.0]).significant
        (7,)
    """
    if not len(values):
        raise InputError("there is no value to judge: an inspection needs at least one class")
    given = np.asarray(values, dtype=float)
    used = np.isfinite(given)
    count, nothing = int(used.sum()), (float("nan"),) * len(given)
    warnings = [] if used.all() else [f"{len(given) - count} of {len(given)} values are not numbers and take no part"]
    median = float(np.median(given[used])) if count else float("nan")
    if count < FEWEST:
        warnings.append(f"no verdict: of {count} values none can be told from the others, {FEWEST} are needed")
        return Outliers(nothing, None, nothing, None, median, float("nan"), warnings=tuple(warnings))
    from scipy.stats import t  # takes a second to import

    index = np.full(len(given), np.nan)
    for place in np.flatnonzero(used):
        others = _others(given, place)
        spread = max(others.std(ddof=1), ROUNDING * np.abs(given[used]).max(), SMALLEST)
        index[place] = (given[place] - others.mean()) / (spread * (1 + 1 / len(others)) ** 0.5)
    p_values = np.minimum(1.0, count * t.sf(index, count - 2))
    largest = int(np.nanargmax(np.where(used, given, np.nan)))
    chance = _by_gamma(given[largest], _others(given, largest))
    return Outliers(
        index=tuple(index.tolist()),
        flagged=(largest,) if chance < alarm else (),
        p_values=tuple(p_values.tolist()),
        significant=tuple(np.flatnonzero(np.nan_to_num(p_values, nan=1.0) <= alpha).tolist()),
        median=median,
        scale=float(given[used].std(ddof=1)),
        threshold=float(t.isf(alpha / count, count - 2)),
        warnings=tuple(warnings),
        reach=float("inf"),
        detail=f"{chance:.2g} by the paper's Gamma distribution",
    )


def _others(values: np.ndarray, place: int) -> np.ndarray:
    others = np.delete(values, place)
    return others[np.isfinite(others)]


def _by_gamma(largest: float, others: np.ndarray) -> float:
    """Probability that the largest of as many values of the others' Gamma distribution reaches this one."""
    from scipy.stats import gamma

    rounding = ROUNDING * max(np.abs(others).max(), abs(largest))
    if others.std() <= rounding:  # no distribution can be fitted to equal numbers
        return 0.0 if largest > others.max() + rounding else 1.0
    return float(-np.expm1((len(others) + 1) * gamma.logcdf(largest, *gamma.fit(others))))
