"""What benchmarks share: what they keep, the page that they write, and figures that need a process of their own.

Seconds, rounds in turn and ratios are those of :mod:`experiments.cost`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from experiments.kept import Kept
from experiments.page import Page

__all__ = ["WHOLE_HEAP", "Used", "bench", "in_a_process", "kept", "peak_mib"]

KEPT = Path("runs/benchmarks")
ROOT = Path(__file__).parent.parent

WHOLE_HEAP = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Where memory is measured, freed blocks go back to the system: holes in the heap are not counted."""


def bench(name: str, stem: str | None = None) -> Page:
    """The page of a benchmark, which has its name unless told otherwise."""
    return Page(f"benchmarks.{name}", stem or name, str(KEPT))


def kept(fresh: bool = False) -> Kept:
    """What interrupted runs measured; ``fresh`` measures it again."""
    return Kept(KEPT, fresh)


class Used:
    """Memory and seconds from here on."""

    def __init__(self) -> None:
        self.before, self.began = peak_mib(), time.perf_counter()

    def __call__(self) -> list[float]:
        """MiB by which the highest resident memory grew, and seconds gone."""
        return [round(peak_mib() - self.before, 1), round(time.perf_counter() - self.began, 2)]


def peak_mib() -> float:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(module: str, *arguments: object, environment: Mapping[str, str] = WHOLE_HEAP) -> list[float]:
    """Figures that ``python -m module`` prints as JSON in its last line.

    Args:
        module: dotted name.
        arguments: of the command.
        environment: variables besides those of this process.
    """
    line = [sys.executable, "-m", module, *map(str, arguments)]
    variables = os.environ | environment
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=variables, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])
