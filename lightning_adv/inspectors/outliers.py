"""Which of K norms is an outlier: the rules of Neural Cleanse and DeepInspect, and how far chance alone gets.

    index_k = |norm_k - median| / (1.4826 MAD),        MAD = median_k |norm_k - median|

A class is flagged if its norm is not above the median and its index exceeds 2 (Neural Cleanse, Wang et al., 2019).
The double MAD (DeepInspect, Chen et al., 2019) takes the deviation of the norms below the median for what lies below
it, and of those above for what lies above.

The rule looks at the largest of K indices, and that exceeds 2 by chance: for K Gaussian norms in 34 % (K = 10), 64 %
(K = 43), 88 % (K = 100) of clean models. The corrected p-value is the share of such draws whose largest index is at
least the one observed.

How norms enter that are no numbers: +inf is a class for which no trigger was found. It ranks above every found norm and
takes part in median and MAD by its rank alone; if half of the classes are such, there is no verdict. NaN (a search that
diverged) is left out.

Of few norms the index cannot be large: it is 1 / 1.4826 for both of two whatever their size, and bounded up to two for
the MAD, up to four for the double MAD, more with classes without a trigger. The rule says nothing there, so there is no
verdict. Where norms differ much, the index is bounded because no norm is below 0: that is said beside the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from lightning_adv.errors import InputError

__all__ = [
    "GAUSSIAN_MAD",
    "Outliers",
    "anomaly_indices",
    "find_outliers",
    "null_of_the_largest_index",
    "why_no_verdict",
]

GAUSSIAN_MAD = 1.4826
"""Standard deviation of a Gaussian over its MAD."""

GAUSSIAN_MEAN_DEVIATION = 1.2533
"""Standard deviation of a Gaussian over its mean absolute deviation."""

SMALLEST_NORM = 1e-6
"""Norm in pixels, below which no image of 8 bits changes; a norm of 0 has no logarithm."""

SMALLEST_LOG = float(np.log(SMALLEST_NORM))

FAR, UNBOUNDED = 1e9, 1e3
"""How far below all others a norm is put to see whether its index grows with its distance, and where it does."""

NULL_NUMBERS = 5_000_000
"""Gaussian numbers drawn for a null distribution; K of them make one clean model."""


@dataclass(frozen=True)
class Outliers:
    """The verdict on K norms.

    Args:
        index: [K] anomaly index; NaN where the norm is no finite number or there is no verdict.
        flagged: positions that the paper's rule flags: norm not above the median, index above the threshold; None if
            there is no verdict, which is not the same as none flagged.
        p_values: [K] probability that the largest index of as many Gaussian norms reaches this one; 1 above the median;
            NaN where there is no index, and everywhere if MAD = 0, where the Gaussian null does not apply.
        significant: positions whose corrected p-value is not above alpha; None if there is no verdict.
        median: of the norms.
        scale: 1.4826 MAD of the norms up to the median, or of their logarithms.
        threshold: of the paper's rule.
        warnings: what a reader must know.
        reach: index that the smallest norm would have if it were 0; not above the threshold: no trigger, however small,
            could be flagged among these norms.
        detail: what the paper's rule computed, where that is not the index.

    Example:
        >>> find_outliers([50.0, 52.0, 5.0, 49.0, 55.0, 51.0, 47.0, 53.0, 50.5, 48.0]).flagged
        (2,)
    """

    index: tuple[float, ...]
    flagged: tuple[int, ...] | None
    p_values: tuple[float, ...]
    significant: tuple[int, ...] | None
    median: float
    scale: float
    threshold: float = 2.0
    warnings: tuple[str, ...] = ()
    reach: float = float("nan")
    detail: str = ""

    @property
    def judged(self) -> bool:
        """Whether there is a verdict."""
        return self.flagged is not None

    @property
    def p_value(self) -> float:
        """Corrected p-value of the most suspicious norm: of the whole model. NaN without a verdict."""
        return min((p for p in self.p_values if p == p), default=float("nan"))


def find_outliers(
    norms: Sequence[float],
    *,
    double: bool = False,
    logarithmic: bool = False,
    threshold: float = 2.0,
    alpha: float = 0.05,
) -> Outliers:
    """Judge the norms of K reconstructed triggers.

    Args:
        norms: [K]; +inf and NaN as the module says.
        double: double MAD instead of MAD.
        logarithmic: judge the logarithms of the norms.
        threshold: of the paper's rule.
        alpha: level of the corrected verdict.

    Raises:
        InputError: no norm.

    Example:
        >>> find_outliers([10.0, 11.0, 12.0, 9.5, 10.5, 1.0]).flagged
        (5,)
        >>> find_outliers([10.0, 1.0]).flagged is None  # of two norms none can be an outlier
        True
    """
    if not len(norms):
        raise InputError("there is no norm to judge: an inspection needs at least one class")
    values = np.asarray(norms, dtype=float)
    if logarithmic:
        values = np.log(np.maximum(values, SMALLEST_NORM))
    measured = _measure(values, double)
    index, median = measured.index, measured.median
    if np.isnan(median):
        nothing = (float("nan"),) * len(values)
        return Outliers(nothing, None, nothing, None, median, measured.scale, threshold, measured.warnings)
    reach, warnings = _reach(values, double, SMALLEST_LOG if logarithmic else 0.0), measured.warnings
    if not reach > threshold:
        warnings += (
            "no trigger, however small, could be flagged among norms that differ so much: one of norm 0 would have "
            f"the index {reach:.2f}, and {threshold:g} is needed",
        )
    below = np.isfinite(index) & (values <= median)
    flagged = below & (np.nan_to_num(index) > threshold)
    p_values = np.full(len(values), np.nan)
    if measured.gaussian:
        null = null_of_the_largest_index(int((~np.isnan(values)).sum()), double)
        p_values[np.isfinite(index)] = 1.0
        p_values[below] = [_exceedance(null, each) for each in index[below]]
    with np.errstate(invalid="ignore"):
        significant = p_values <= alpha
    return Outliers(
        index=tuple(index.tolist()),
        flagged=tuple(np.flatnonzero(flagged).tolist()),
        p_values=tuple(p_values.tolist()),
        significant=tuple(np.flatnonzero(significant).tolist()),
        median=float(np.exp(median)) if logarithmic else median,
        scale=measured.scale,
        threshold=threshold,
        warnings=warnings,
        reach=reach,
    )


def anomaly_indices(norms: Sequence[float], double: bool = False) -> list[float]:
    """[K] anomaly indices alone, NaN without a verdict; see :class:`Outliers`.

    Example:
        >>> [round(each, 3) for each in anomaly_indices([1.0, 2.0, 3.0, 4.0])]
        [1.012, 0.337, 0.337, 1.012]
    """
    return _measure(np.asarray(norms, dtype=float), double).index.tolist()


def why_no_verdict(classes: int, double: bool = False) -> tuple[str, ...]:
    """Why there can be no verdict on that many classes, whatever their norms; empty if there can be one.

    Example:
        >>> [classes for classes in range(1, 9) if why_no_verdict(classes, double=True)]
        [1, 2, 3, 4]
    """
    measured = _measure(np.arange(1.0, classes + 1), double)
    return measured.warnings if np.isnan(measured.median) else ()


@cache
def null_of_the_largest_index(classes: int, double: bool = False) -> np.ndarray:
    """Largest index at or below the median for draws of that many Gaussian norms, ascending.

    The number of draws is five million over the number of classes; their seed is fixed, so a verdict is a function of
    the norms alone.
    """
    generator = np.random.default_rng(0)
    draws = max(1, NULL_NUMBERS // max(classes, 1))
    portion = max(1, 200_000 // max(classes, 1))  # rows that fit a cache
    largest = [
        _largest(generator.standard_normal((min(portion, draws - done), classes)), double)
        for done in range(0, draws, portion)
    ]
    null = np.sort(np.concatenate(largest))
    null.setflags(write=False)
    return null


def _largest(norms: np.ndarray, double: bool) -> np.ndarray:
    """Index of the smallest norm of each row: none at or below the median is larger."""
    median = np.median(norms, axis=1)
    deviation = np.abs(norms - median[:, None])
    if double:
        deviation = np.where(norms <= median[:, None], deviation, np.nan)
    mad = np.nanmedian(deviation, axis=1) if double else np.median(deviation, axis=1)
    gap = median - norms.min(axis=1)
    return np.divide(gap, GAUSSIAN_MAD * mad, out=np.zeros_like(gap), where=mad > 0)


def _exceedance(null: np.ndarray, index: float) -> float:
    """Share of the null at or above ``index``, the observation itself counted (no p-value is 0)."""
    above = len(null) - np.searchsorted(null, index * (1 - 1e-9), side="left")
    return float((1 + above) / (1 + len(null)))


@dataclass(frozen=True)
class _Measured:
    index: np.ndarray
    median: float
    scale: float
    gaussian: bool
    warnings: tuple[str, ...]


def _measure(norms: np.ndarray, double: bool) -> _Measured:
    used = norms[~np.isnan(norms)]
    found = np.isfinite(used)
    warnings = []
    if len(used) < len(norms):
        warnings.append(f"{len(norms) - len(used)} of {len(norms)} norms are not numbers and take no part in the rule")
    if 2 * found.sum() <= len(used):
        warnings.append(
            f"no verdict: a trigger was found for {found.sum()} of {len(norms)} classes, and a median needs more than "
            "half of them; allow more steps"
        )
        return _no_verdict(len(norms), warnings)
    bound = _bound(found, double)
    if bound < UNBOUNDED:
        warnings.append(
            f"no verdict: of {_counted(found)} the smallest has an anomaly index of at most {bound:.2f} however small "
            "it is; compare the norms with those of models that are known to be clean"
        )
        return _no_verdict(len(norms), warnings)
    index, median, scale, gaussian = _index(norms, double)
    if not gaussian:
        warnings.append(
            "MAD = 0, half of the norms are equal: the mean absolute deviation takes its place, without p-values"
        )
    return _Measured(index, median, scale, gaussian, tuple(warnings))


def _index(norms: np.ndarray, double: bool) -> tuple[np.ndarray, float, float, bool]:
    """Index [K], median, scale, and whether the scale is a MAD; a trigger was found for more than half."""
    used = norms[~np.isnan(norms)]
    found = np.isfinite(used)
    median = float(np.median(used))
    deviation = np.where(found, np.abs(np.where(found, used, 0.0) - median), np.inf)
    below, above = (used <= median, used >= median) if double else (np.full(len(used), True),) * 2
    (scale, gaussian), (scale_above, _) = (_scale(deviation[side]) for side in (below, above))
    finite = np.where(np.isfinite(norms), norms, median)
    gap, divisor = np.abs(finite - median), np.where(finite <= median, scale, scale_above)
    index = np.divide(gap, divisor, out=np.zeros_like(gap), where=divisor > 0)
    return np.where(np.isfinite(norms), index, np.nan), median, scale, gaussian


def _bound(found: np.ndarray, double: bool) -> float:
    """Index of a norm far below the others, which are close together: how large it can be among as many norms."""
    norms = np.where(found, np.cumsum(found, dtype=float), np.inf)
    lowest = int(found.argmax())
    norms[lowest] = -FAR
    return float(_index(norms, double)[0][lowest])


def _reach(norms: np.ndarray, double: bool, smallest: float) -> float:
    """Index that the smallest norm would have if it were as small as can be."""
    lowest = int(np.nanargmin(norms))
    replaced = norms.copy()
    replaced[lowest] = min(smallest, norms[lowest])
    return float(_index(replaced, double)[0][lowest])


def _counted(found: np.ndarray) -> str:
    without = len(found) - int(found.sum())
    return f"{len(found)} norm{'s' if len(found) > 1 else ''}" + (f", {without} without a trigger," if without else "")


def _no_verdict(classes: int, warnings: list[str]) -> _Measured:
    return _Measured(np.full(classes, np.nan), float("nan"), float("nan"), False, tuple(warnings))


def _scale(deviation: np.ndarray) -> tuple[float, bool]:
    """Estimate of the standard deviation, and whether it comes from MAD; from the mean deviation where MAD = 0."""
    mad = float(np.median(deviation))
    if mad > 0:
        return GAUSSIAN_MAD * mad, True
    return GAUSSIAN_MEAN_DEVIATION * float(deviation[np.isfinite(deviation)].mean()), False
