"""A second look at what was flagged: the same inspections of networks that the defender trained on clean images.

    d_ik = v_ik - mean_r v_irk,    c_k = mean_i (d_ik - median_k d_ik) / s_i,    index_k = c_k / (s sqrt(1 + 1/R))
    s_i = the larger one of the spread of the references' d and of 1.4826 median_k |d_ik - median_k d_ik|

v_ik is how suspicious inspector i finds class k: minus the logarithm of a norm, the logarithm of a margin, or a share.
The R references tell what a class is like by nature, and s_i and s how far honest networks differ in it. A class that
stands out by nature stands out in the references as well; ten norms of one network cannot tell that from a backdoor.
References that are not quite the model's like, because they had fewer images or trained for longer, differ from it in
most classes: one stands out only if it does so among the model's own as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_adv.errors import InputError
from lightning_adv.inspectors.report import InspectionReport

__all__ = ["SecondLook", "compare", "second_look"]

FEWEST = 2
"""References; one tells nothing of how far honest networks differ."""

LEAST_SPREAD = 0.05
"""A change of a norm or a margin by one part in twenty, or of a share by so much, is nothing."""

SMALLEST_MARGIN = 1e-3

UNLIKE = 2.0
"""So many deviations of the references is the median class of a model of another kind away, which a reader is told."""

TOLD_APART = 3
"""Classes from which on a median over them is not the class that stands out."""


@dataclass(frozen=True)
class SecondLook:
    """The verdict on the K classes of a model beside R references.

    Args:
        index: [K] how far a class stands out, in deviations of the references.
        p_values: [K] corrected for the number of classes.
        alpha: level of the verdict.
        references: R.
        inspectors: names of those whose values were compared.
        unlike: how far the model's classes lie from the references', in their median, in deviations of the references;
            of the inspector in which it is most.

    Example:
        >>> honest = 0.1 * torch.rand(3, 1, 6).numpy()
        >>> compare(torch.tensor([[0.0, 0, 0, 2, 0, 0]]).numpy(), honest).flagged
        [3]
    """

    index: tuple[float, ...]
    p_values: tuple[float, ...]
    alpha: float
    references: int
    inspectors: tuple[str, ...] = ()
    unlike: float = 1.0

    @property
    def comparable(self) -> bool:
        """Whether the references are networks of the model's kind."""
        return self.unlike <= UNLIKE

    @property
    def flagged(self) -> list[int]:
        """Classes that stand out at the corrected level."""
        return [label for label, chance in enumerate(self.p_values) if chance <= self.alpha]

    @property
    def p_value(self) -> float:
        """Of the whole model."""
        return min(self.p_values)


def second_look(
    reports: Mapping[str, InspectionReport],
    references: Sequence[Mapping[str, InspectionReport]],
    alpha: float = 0.05,
) -> SecondLook:
    """Compare the reports on a model with those of the same inspectors on references.

    Args:
        reports: name of an inspector to its report on the model.
        references: the same, of each network of the defender's own.
        alpha: level of the verdict.

    Raises:
        InputError: fewer than two references, or one of other classes.
    """
    classes = {len(report.labels) for each in (reports, *references) for report in each.values()}
    if len(classes) > 1:
        raise InputError(f"the model and its references have different numbers of classes: {sorted(classes)}")
    own, others = _values(reports), [_values(each) for each in references]
    return compare(own, np.array(others).reshape(len(others), *own.shape), alpha, tuple(reports))


def compare(
    values: np.ndarray, references: np.ndarray, alpha: float = 0.05, inspectors: tuple[str, ...] = ()
) -> SecondLook:
    """Compare values [I, K], the larger the more suspicious, with those of R references [R, I, K].

    Args:
        values: of the model, one row an inspector.
        references: of the references.
        alpha: level of the verdict.
        inspectors: names of the rows.

    Raises:
        InputError: fewer than two references.
    """
    if len(references) < FEWEST:
        raise InputError(
            f"a second look compares with at least {FEWEST} networks of your own, got {len(references)}: train more on "
            "clean images"
        )
    from scipy.stats import t  # takes a second to import

    apart = np.concatenate([references, values[None]]) - references.mean(axis=0)  # [R + 1, I, K]
    # What a network has more or less of in all classes says nothing of one of them.
    apart -= np.median(apart, axis=2, keepdims=True)
    apart -= apart[:-1].mean(axis=0)
    scale = np.maximum(_spread(apart[:-1]), LEAST_SPREAD)  # [I]
    own = 1.4826 * np.median(np.abs(apart[-1]), axis=-1) if apart.shape[-1] >= TOLD_APART else 0 * scale
    apart[:-1] /= scale[:, None]
    apart[-1] /= np.maximum(own, scale)[:, None]
    combined = apart.mean(axis=1)  # [R + 1, K]
    spread = max(_spread(combined[:-1]), 1 / len(values))
    index = combined[-1] / (spread * (1 + 1 / len(references)) ** 0.5)
    unlike = float((own / scale).max())
    known = 1 if unlike > 1 else len(references) - 1  # networks that tell the deviation
    chance = np.minimum(1.0, len(index) * t.sf(index, known * (len(index) - 1)))
    return SecondLook(tuple(index.tolist()), tuple(chance.tolist()), alpha, len(references), inspectors, unlike)


def _spread(apart: np.ndarray) -> np.ndarray:
    """Deviation over references and classes of what is apart from their mean [R, ..., K], K - 1 of which are free."""
    free = (len(apart) - 1) * max(1, apart.shape[-1] - 1)
    return np.sqrt(np.square(apart).sum(axis=(0, -1)) / free)


def _values(reports: Mapping[str, InspectionReport]) -> np.ndarray:
    """How suspicious each inspector finds each class [I, K]."""
    return np.array([_suspicion(report) for report in reports.values()])


def _suspicion(report: InspectionReport) -> np.ndarray:
    values = np.array(report.norms, dtype=float)
    if report.measure == "share":
        return np.nan_to_num(values)
    if report.large:
        return np.log(np.maximum(np.nan_to_num(values, nan=SMALLEST_MARGIN), SMALLEST_MARGIN))
    whole = report.triggers[0].mask.numel()  # a class without a trigger needs all of the image
    return -np.log(np.clip(np.nan_to_num(values, nan=whole, posinf=whole), SMALLEST_MARGIN, whole))
