from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from lightning_adv.reports.robustness import RobustnessResult
from lightning_adv.reports.run import Machine, RunInfo

from .samples import attack


@pytest.fixture
def provenance() -> RunInfo:
    started, finished = (datetime(2026, 11, 21, 3, minute, tzinfo=UTC).isoformat() for minute in (0, 4))
    machine = Machine("A processor", [], 2, 8.0, "Linux")
    versions = {"python": "3.11.7", "torch": "2.15.0"}
    return RunInfo("train.py fit", 7, "0123456789abcdef", True, versions, machine, started, finished, "runs/one")


@pytest.fixture
def robustness() -> Callable[..., RobustnessResult]:
    """A result on 100 images of two classes: 90 correct, 60 under fgsm, 50 under pgd, 45 under both."""

    def make(**changes) -> RobustnessResult:
        known = {
            "title": "Attacks",
            "epoch": 3,
            "samples": 100,
            "clean_correct": 90,
            "class_names": ["cat", "dog"],
            "per_class_samples": [60, 40],
            "per_class_clean_correct": [55, 35],
            "attacks": [attack("fgsm", [35, 25]), attack("pgd", [30, 20])],
            "worst_case_correct": 45,
            "worst_case_per_class": [27, 18],
        }
        return RobustnessResult(**(known | changes))

    return make
