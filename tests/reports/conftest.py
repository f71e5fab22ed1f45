from datetime import UTC, datetime

import pytest

from lightning_adv.reports.run import Machine, RunInfo


@pytest.fixture
def provenance() -> RunInfo:
    started, finished = (datetime(2026, 11, 21, 3, minute, tzinfo=UTC).isoformat() for minute in (0, 4))
    machine = Machine("A processor", [], 2, 8.0, "Linux")
    versions = {"python": "3.11.7", "torch": "2.15.0"}
    return RunInfo("train.py fit", 7, "0123456789abcdef", True, versions, machine, started, finished, "runs/one")
