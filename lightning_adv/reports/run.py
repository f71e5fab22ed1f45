"""Where a result comes from: command, seed, code, versions, machine and time."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from lightning_adv.models import Statistics

__all__ = ["Code", "Machine", "RunInfo", "code_in", "run_info"]

DISTRIBUTIONS = {
    "lightning_adv": "lightning-adv",
    "torch": "torch",
    "lightning": "pytorch-lightning",
    "torchvision": "torchvision",
    "torchmetrics": "torchmetrics",
    "timm": "timm",
    "kornia": "kornia",
}


@dataclass(frozen=True)
class Machine:
    """What the run had: processor, GPUs by name, usable cores, memory in GiB, operating system."""

    cpu: str
    gpus: list[str]
    cores: int
    memory_gib: float | None
    system: str


@dataclass(frozen=True)
class RunInfo:
    """The provenance of a report.

    Args:
        command: command line as typed.
        seed: the run's seed, None where none was set.
        commit: git commit of the working directory, None outside a repository or without git.
        dirty: whether tracked files differ from that commit; None where there is no commit.
        versions: name to version of Python and of the libraries that decide the figures.
        machine: where it ran.
        started, finished: ISO 8601 times with their offset; ``finished`` is None of a run that goes on or was ended.
        folder: folder of the run.
        ended: how far a run came that did not finish, such as "interrupted, 2 of 15 epochs"; else None.
        preparation: size, interpolation and crop of pictures that were read from files; else None.
        normalisation: mean and standard deviation that the model's first layer takes images with, and who says so; None
            where the model has no such layer of this package.
        model: name of the network, or the model's class.
        parameters: how many the model has; None where it is not told.
        weights: name of every file that an evaluated model was read from to its SHA-256.
        data: name of the image set; two runs compare only where it is the same.
        cuts: what was left out for want of time.
    """

    command: str
    seed: int | None
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    machine: Machine
    started: str
    finished: str | None
    folder: str
    ended: str | None = None
    preparation: str | None = None
    normalisation: Statistics | None = None
    model: str | None = None
    parameters: int | None = None
    weights: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    cuts: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """Wall-clock seconds from start to finish."""
        if self.finished is None:
            return None
        return (datetime.fromisoformat(self.finished) - datetime.fromisoformat(self.started)).total_seconds()

    def as_dict(self) -> dict:
        """Plain data for ``results.json``."""
        return asdict(self)


class Code(NamedTuple):
    """A git commit, and whether tracked files differ from it; None where it cannot be found out."""

    commit: str | None
    dirty: bool | None


def code_in(repository: str | os.PathLike[str], besides: str | None = None) -> Code:
    """The state of a folder's repository now; what lies in the folder ``besides`` of it is no code."""
    commit = _git(repository, "rev-parse", "HEAD")
    asked = ["--", ".", f":(exclude){besides}"] if besides else []
    changes = None if commit is None else _git(repository, "status", "--porcelain", "--untracked-files=no", *asked)
    return Code(commit, None if changes is None else changes != "")


def run_info(
    seed: int | None,
    folder: str | os.PathLike[str],
    started: datetime,
    *,
    finished: datetime | None = None,
    ended: str | None = None,
    command: Sequence[str] | None = None,
    code: Code | None = None,
) -> RunInfo:
    """Collects the provenance of this process, but not of model and data; what cannot be found out is None.

    Args:
        seed: the run's seed.
        folder: folder of the run.
        started, finished: times with a time zone; leave ``finished`` out while the run goes on.
        ended: how far a run came that did not finish.
        command: the command line, default that of this process.
        code: what ran, asked for when the run began: what it writes itself, and a commit of that time, are no part of
            it; default that of the working directory now.
    """
    commit, dirty = code_in(".") if code is None else code
    return RunInfo(
        command=shlex.join(sys.argv if command is None else command),
        seed=seed,
        commit=commit,
        dirty=dirty,
        versions=_versions(),
        machine=_machine(),
        started=_iso(started),
        finished=None if finished is None else _iso(finished),
        folder=str(folder),
        ended=ended,
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _git(repository: str | os.PathLike[str], *arguments: str) -> str | None:
    """Output of a git command; None without git, outside a repository or where git refuses."""
    try:
        done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name, distribution in DISTRIBUTIONS.items():
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return versions


def _machine() -> Machine:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    # A container or a scheduler may lend fewer cores than the machine has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Machine(cpu=_cpu(), gpus=gpus, cores=cores, memory_gib=_memory_gib(), system=system)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # not every system has sysconf or these two names
        return None
