"""Rules: what a network's figures come to, higher being more suspicious; and how well that tells networks.

A rule's threshold is chosen on the networks of even numbers, so that at most 5 % of the clean ones lie above, and
judged on those of odd numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from experiments.inspection_power.nets import Net
from lightning_adv.inspectors import SecondLook, compare, find_largest, find_outliers
from lightning_adv.metrics.detection import auroc

__all__ = ["FALSE_ALARMS", "RULES", "Found", "Judged", "beside_references", "judged"]

FALSE_ALARMS = 0.05
Found = Mapping[str, object]
"""Figures of a network, as ``Measured.everything`` gives them."""


def small_norms(found: Found) -> np.ndarray:
    """[K] minus the mean logarithm of the norms over all searches, as shares of the image."""
    return -np.log(np.minimum(_norms(found) / found["pixels"], 1.0)).mean(axis=0)


def margins(found: Found) -> np.ndarray:
    """[K] logarithms of MM-BD's margins."""
    return np.log(np.maximum(np.asarray(found["mm_bd"], float), 1e-3))


def shares(found: Found) -> np.ndarray:
    """[K] of BTI-DBF."""
    return np.asarray(found["bti_dbf"], float)


def shrunk(found: Found, place: int) -> np.ndarray:
    """[K] mean success of the triggers at a share of their mask."""
    return np.mean([np.asarray(each["sizes"], float)[:, place] for each in found["neural_cleanse"]], axis=0)


def _norms(found: Found) -> np.ndarray:
    return np.asarray([each["norms"] for each in found["neural_cleanse"]], float)


def _index(norms: Sequence[float], **how: bool) -> float:
    outliers = find_outliers(list(norms), **how)
    small = [i for norm, i in zip(norms, outliers.index, strict=True) if norm <= outliers.median and i == i]
    return max(small, default=0.0)


def _unlearnt(found: Found) -> float:
    left = [each["unlearnt"][1] for each in found["neural_cleanse"]]
    return -float(np.mean([1.0 if each is None else each for each in left]))


Rule = Callable[[Found, Sequence[Found]], float]

PARTS: Mapping[str, Callable[[Found], np.ndarray]] = {
    "norms": small_norms,
    "margins": margins,
    "shares": shares,
    "shrunk": lambda found: shrunk(found, 1),
}
"""What is compared with references, by name."""


BESIDE = ("norms", "margins", "shares")
"""Those that a report with references compares."""


def beside_references(found: Found, references: Sequence[Found], parts: Sequence[str] = BESIDE) -> SecondLook:
    """The second look of an inspection with these references."""
    values, others = (
        np.array([[PARTS[part](each) for part in parts] for each in those]) for those in ([found], references)
    )
    return compare(values[0], others)


def _against(*parts: str) -> Rule:
    return lambda found, references: max(beside_references(found, references, parts).index)


RULES: Mapping[str, Rule] = {
    "Neural Cleanse, one search, index": lambda found, _: _index(_norms(found)[0]),
    "Neural Cleanse, one search, index of logarithms": lambda found, _: _index(_norms(found)[0], logarithmic=True),
    "Neural Cleanse, all searches, index of logarithms": lambda found, _: _index(
        np.exp(-small_norms(found)), logarithmic=True
    ),
    "Neural Cleanse, all searches, smallest norm": lambda found, _: float(small_norms(found).max()),
    "Neural Cleanse, all searches, against references": _against("norms"),
    "success of half of the trigger": lambda found, _: float(shrunk(found, 1).max()),
    "success of a quarter of the trigger": lambda found, _: float(shrunk(found, 2).max()),
    "success of half of the trigger, against references": _against("shrunk"),
    "unlearning of the smallest trigger": lambda found, _: _unlearnt(found),
    "MM-BD, the paper's p-value": lambda found, _: -float(find_largest(found["mm_bd"]).detail.split()[0]),
    "MM-BD, corrected index": lambda found, _: float(np.nanmax(find_largest(found["mm_bd"]).index)),
    "MM-BD, against references": _against("margins"),
    "BTI-DBF, largest share": lambda found, _: float(shares(found).max()),
    "BTI-DBF, against references": _against("shares"),
    "norms and margins, against references": _against("norms", "margins"),
    "norms, margins and shares, against references": _against(*BESIDE),
}
"""By name."""


@dataclass(frozen=True)
class Judged:
    """What a rule is worth.

    Args:
        rule: its name.
        threshold: chosen on the first half.
        chosen_power: share of the first half's backdoored networks above it.
        chosen_area: under the ROC curve of the first half.
        false_alarms: clean networks of the second half above it, and how many there are.
        caught: kind to backdoored networks of the second half above it, and how many there are.
        area: under the ROC curve of the second half.
    """

    rule: str
    threshold: float
    chosen_power: float
    chosen_area: float
    false_alarms: tuple[int, int]
    caught: Mapping[str, tuple[int, int]]
    area: float


def judged(rule: str, scores: Mapping[str, Mapping[Net, float]]) -> Judged:
    """Choose the threshold on even numbers, judge on odd ones.

    Args:
        rule: name of the rule.
        scores: kind to network to score; "clean" are the clean ones.
    """
    even, odd = (
        {kind: [s for net, s in each.items() if net.number % 2 == half] for kind, each in scores.items()}
        for half in (0, 1)
    )
    clean = sorted(even["clean"], reverse=True)
    threshold = clean[int(FALSE_ALARMS * len(clean))]
    backdoored = {
        half_name: [s for kind, each in half.items() if kind != "clean" for s in each]
        for half_name, half in (("even", even), ("odd", odd))
    }
    return Judged(
        rule,
        threshold,
        float(np.mean(np.asarray(backdoored["even"]) > threshold)),
        auroc(torch.tensor(clean), torch.tensor(backdoored["even"])),
        _above(odd["clean"], threshold),
        {kind: _above(each, threshold) for kind, each in odd.items() if kind != "clean"},
        auroc(torch.tensor(odd["clean"]), torch.tensor(backdoored["odd"])),
    )


def _above(scores: Sequence[float], threshold: float) -> tuple[int, int]:
    return int(np.sum(np.asarray(scores) > threshold)), len(scores)
