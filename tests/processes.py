"""Running train.py in processes of its own, and what such a run left."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.warm import HEIRS, Warm

__all__ = [
    "NO_NOISE",
    "PAUSE",
    "ROOT",
    "SECONDS",
    "TWO_RANKS",
    "environment",
    "in_ranks",
    "kill_when",
    "launched",
    "results",
    "run",
    "srun",
    "torchrun",
    "train",
    "weights",
]

ROOT = Path(__file__).parent.parent
SECONDS = 200
"""No run takes half of this; a run that hangs is killed then."""

PAUSE = 0.02
"""Seconds between two looks at a run, which needs the processor itself."""

TWO_RANKS = (
    "--trainer.devices=2",
    "--trainer.strategy=DDPStrategy",
    "--trainer.strategy.process_group_backend=gloo",
    "--trainer.strategy.timeout=0:01:30",  # a rank that is left alone in a collective ends with an error then
)
NO_NOISE = ("--model.objective=CrossEntropy", "--model.objective.label_smoothing=0")


def environment() -> dict[str, str]:
    """One thread, a free port, and nothing that another run left."""
    left = ("LIGHTNING_ADV", "MASTER_", "LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "WANDB_", "PL_", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return kept | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": path}


def run(line: list, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a Python script in a folder, warm; how it ended and what it printed."""
    (done,) = _finished([_started(line, folder, environment() | variables)])
    return done


def train(folder: Path, command: str, name: str, *options: str) -> str:
    """Run train.py as a user does; what it printed."""
    line = [sys.executable, ROOT / "train.py", command, "--config", "base.yaml", "--run", name, *options]
    done = run(line, folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def torchrun(script: str, folder: Path, ranks: int, *arguments: object) -> str:
    """Run a script in processes with torchrun's variables; what they printed."""
    done = in_ranks(script, folder, ranks, *arguments)
    assert not any(each.returncode for each in done), "\n".join(each.stderr[-4000:] for each in done)
    return "".join(each.stdout for each in done)


def in_ranks(script: str, folder: Path, ranks: int, *arguments: object) -> list[subprocess.CompletedProcess]:
    """Write a script into a folder and run it there in processes with torchrun's variables; how each of them ended."""
    (folder / "script.py").write_text(script)
    of_all = environment() | {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "TORCHELASTIC_RUN_ID": "tests"}
    line = [sys.executable, "script.py", *arguments]
    started = [_started(line, folder, of_all | {"RANK": str(i), "LOCAL_RANK": str(i)}) for i in range(ranks)]
    return _finished(started)


def srun(folder: Path, line: list, ranks: int, **variables: str) -> list[subprocess.CompletedProcess]:
    """Start a script in processes with the variables of SLURM's ``srun``; how each of them ended."""
    job = {"JOB_ID": "77", "JOB_NAME": "name", "NODELIST": "127.0.0.1", "NODEID": "0", "NTASKS": str(ranks)}
    of_all = environment() | {f"SLURM_{name}": value for name, value in (job | {"NTASKS_PER_NODE": str(ranks)}).items()}
    of_all |= variables
    each = [of_all | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(ranks)]
    return _finished([_started(line, folder, variables) for variables in each])


def launched(folder: Path, options: list[str], line: list, starts: int, **variables: str) -> Warm:
    """Start torchrun itself with its options on a script; it starts so many processes in all."""
    (folder / "launch.py").write_text("from torch.distributed.run import main\n\nmain()\n")
    command = [sys.executable, "launch.py", *options, "--", *line]
    return _started(command, folder, environment() | variables | {HEIRS: str(starts)})


def _started(line: list, folder: Path, variables: dict[str, str]) -> Warm:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Warm([str(each) for each in line], cwd=folder, env=variables, **pipes)


def _finished(started: list[Warm]) -> list[subprocess.CompletedProcess]:
    """Wait for processes; none of them is left, whatever happens."""
    try:
        said = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *both)
        for process, both in zip(started, said, strict=True)
    ]


def kill_when(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Kill a process as soon as a condition holds."""
    try:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                process.wait(PAUSE)
                pytest.fail("the run ended before it could be killed")
    finally:
        process.kill()
        process.wait()


def results(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "report" / "results.json").read_text())


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
