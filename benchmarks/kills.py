"""Commands that are killed at random moments and given again, and the figures that they leave in the end."""

import hashlib
import json
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "Work", "digest", "report_figures", "withstood"]

MAY_DIFFER = ("second", "time")
"""Parts of the names of figures that measure the machine."""


@dataclass(frozen=True)
class Work:
    """Something that takes a while and leaves figures.

    Args:
        name: of the row.
        again: what the same command does after a kill.
        kills: how many strike it.
        run: does it in the current folder; called once more after a kill.
        figures: read from the folder that it has left.
        resumes: whether a repetition goes on; if not, each kill may strike at any moment of the whole.
    """

    name: str
    again: str
    kills: int
    run: Callable[[], None]
    figures: Callable[[Path], object]
    resumes: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a work.

    Args:
        seconds: that it takes undisturbed.
        moments: seconds after a start at which a kill struck.
        starts: of the command, until it had ended after the last kill.
        same: the figures are those of the undisturbed one.
        failure: last line of a repetition that failed, or nothing.
    """

    seconds: float
    moments: tuple[float, ...]
    starts: int
    same: bool
    failure: str = ""


def withstood(work: Work, folder: Path, seed: int) -> Outcome:
    """Do a work undisturbed, then again under kills, and compare.

    Args:
        work: what is done.
        folder: for both, each in a folder of its own.
        seed: of the moments.
    """
    began = time.perf_counter()
    failure = _strike(work, folder / "undisturbed", None)[1]
    if failure:
        raise RuntimeError(f"{work.name} fails undisturbed: {failure}")
    seconds = time.perf_counter() - began
    expected, drawn = work.figures(folder / "undisturbed"), random.Random(seed)
    moments: list[float] = []
    span = seconds
    starts, attempt, same = 0, 0, True
    while len(moments) < work.kills:  # a work that has ended before its kill is begun anew in another folder
        attempt += 1
        here = folder / f"killed-{attempt}"
        struck = True
        while struck and len(moments) < work.kills:
            moment = drawn.uniform(0.1, 0.9) * span / (work.kills if work.resumes else 1)
            began = time.perf_counter()
            struck, failure = _strike(work, here, moment)
            starts += 1
            if not struck:  # the machine has less to do than when the work was timed
                span = min(span, time.perf_counter() - began)
            moments += [moment] if struck else []
            if failure:
                return Outcome(seconds, tuple(moments), starts, False, failure)
        if struck:
            failure = _strike(work, here, None)[1]
            starts += 1
        if failure:
            return Outcome(seconds, tuple(moments), starts, False, failure)
        same &= work.figures(here) == expected
    return Outcome(seconds, tuple(moments), starts, same)


def _strike(work: Work, folder: Path, moment: float | None) -> tuple[bool, str]:
    """Run in a process that is killed after so many seconds; whether it was, and how it failed otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    # Past its imports, so that no kill is spent on them.
    process = multiprocessing.get_context("fork").Process(target=_begin, args=(work.run, folder))
    process.start()
    process.join(moment)
    if process.is_alive():
        process.kill()  # SIGKILL: nothing of the process runs any more
        process.join()
        return True, ""
    lines = (folder / "log.txt").read_text(errors="replace").split("\n")
    return False, "" if process.exitcode == 0 else next((line for line in reversed(lines) if line), "no word")


def _begin(run: Callable[[], None], folder: Path) -> None:
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    try:
        run()
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def report_figures(folder: Path) -> dict[str, float]:
    """Scalars of all sections of a report, but for those that measure the machine."""
    sections = json.loads((folder / "report" / "results.json").read_text())["sections"]
    return {
        f"{place}/{name}": value
        for place, section in enumerate(sections)
        for name, value in section["scalars"].items()
        if not any(part in name for part in MAY_DIFFER)
    }


def digest(*parts: bytes) -> str:
    """SHA-256 of some bytes."""
    return hashlib.sha256(b"".join(parts)).hexdigest()
