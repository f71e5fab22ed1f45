"""Signals to real processes: Ctrl-C of a terminal, kills, lost ranks; nobody is left behind, and one line says why."""

import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.commands import DEMO, FEW_IMAGES, SMALL_NET
from tests.processes import PAUSE, ROOT, SECONDS, TWO_RANKS, environment, launched, run, weights
from tests.warm import Warm

PATIENCE = 3 * SECONDS
"""Two ranks on a busy core start slowly; nothing is asserted of the time."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

FIT = (
    "fit",
    "--config",
    DEMO,
    *FEW_IMAGES,
    *SMALL_NET,
    "--data.batch_size=5",
    "--data.num_workers=1",
    "--trainer.max_epochs=2",
    "--trainer.callbacks=[]",
)
SIGNALLED = (
    "--trainer.callbacks=tests.accidents.Signalled",
    f"--trainer.callbacks.number={signal.SIGINT:d}",
    "--trainer.callbacks.hook=on_train_batch_start",
)


def _heed_ctrl_c() -> None:
    """As in a terminal, also where the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


AS_A_JOB = {"start_new_session": True, "preexec_fn": _heed_ctrl_c}


@contextmanager
def started(folder: Path, *options: str, **variables: str) -> Iterator[subprocess.Popen]:
    """``train.py`` as the leader of a process group, as a shell starts it; whoever is left of the group is killed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    line = [sys.executable, str(ROOT / "train.py"), *FIT, *options]
    process = Warm(line, cwd=folder, env=environment() | variables, **AS_A_JOB, **pipes)
    try:
        yield process
    finally:
        if is_anybody_left(process):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_anybody_left(process: subprocess.Popen) -> bool:
    """Whether a process of the group lives, the ranks and the workers among them."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_nobody_is_left(process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while is_anybody_left(process):
        assert time.monotonic() < deadline
        select.select([], [], [], PAUSE)


def read_until(stream: object, beginning: str) -> None:
    for line in stream:
        if line.startswith(beginning):
            return
    pytest.fail(f"the process ended before it wrote {beginning!r}")


def ended(process: subprocess.Popen) -> tuple[int, list[str]]:
    """Exit status and the lines on stderr that are no notes."""
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, [line for line in err.splitlines() if not line.startswith(("note: ", "run folder: "))]


def test_ctrl_c_ends_two_ranks_at_one_step_and_the_line_that_is_said_goes_on_to_the_same_weights(tmp_path):
    accident = (*SIGNALLED, "--trainer.callbacks.batch=1", "--trainer.callbacks.group=true")
    with started(tmp_path, "--run=cut", *TWO_RANKS, *accident) as process:
        status, (line,) = ended(process)
        assert status == 130
        wait_until_nobody_is_left(process)
    command = shlex.split(line.partition("; go on with: python ")[2])
    assert command[-4:] == ["--run", "cut", "--ckpt_path", "last"]
    for args in (command[1:], [*FIT, "--run=whole", *TWO_RANKS]):
        done = run([sys.executable, ROOT / "train.py", *args], tmp_path)
        assert done.returncode == 0, done.stderr
    whole, cut = weights(tmp_path, "whole"), weights(tmp_path, "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_sigterm_to_torchrun_ends_its_ranks_at_one_step_and_the_same_launcher_goes_on_to_the_same_weights(tmp_path):
    """As a cluster ends a job: torchrun passes the signal on to its processes, at different moments."""
    accident = ("--trainer.callbacks=tests.accidents.Signalled", f"--trainer.callbacks.number={signal.SIGTERM:d}")
    accident += ("--trainer.callbacks.hook=on_train_batch_start", "--trainer.callbacks.batch=1")
    line = [str(ROOT / "train.py"), *FIT, *TWO_RANKS, "--ckpt_path=last"]
    launcher = ["--nproc-per-node=2", f"--master-port={environment()['MASTER_PORT']}"]
    cut = launched(tmp_path, launcher, [*line, "--run=cut", *accident, "--trainer.callbacks.launcher=true"], starts=2)
    _, err = cut.communicate(timeout=PATIENCE)
    (told,) = [each for each in err.splitlines() if each.startswith("interrupted")]
    assert told.startswith("interrupted in epoch 1 of 2; go on with: the same launcher, and ")
    for name in ("cut", "whole"):
        again = launched(tmp_path, launcher, [*line, f"--run={name}"], starts=2)
        _, err = again.communicate(timeout=PATIENCE)
        assert again.returncode == 0, err[-4000:]
    whole, resumed = weights(tmp_path, "whole"), weights(tmp_path, "cut")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_no_rank_outlives_the_first_one_that_is_killed(tmp_path):
    with started(tmp_path, "--run=killed", "--trainer.max_epochs=-1", *TWO_RANKS) as process:
        read_until(process.stdout, "epoch 1")
        process.kill()
        process.communicate(timeout=PATIENCE)  # until nobody can write any more
        wait_until_nobody_is_left(process)


def test_a_rank_that_is_killed_is_named_and_the_others_end(tmp_path):
    accident = ("--trainer.callbacks=tests.accidents.KilledOnce", "--trainer.callbacks.step=3")
    with started(tmp_path, "--run=lost", *TWO_RANKS, *accident, "--trainer.callbacks.mark=struck") as process:
        status, (line,) = ended(process)
        assert status == 1
        assert line.startswith(
            "error: rank 1 was killed by SIGKILL (often a lack of memory); the others are ended; go on"
        )
        assert line.endswith("--run lost --ckpt_path last")
        wait_until_nobody_is_left(process)


def test_a_port_in_use_is_one_line_and_leaves_no_rank_waiting(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started(tmp_path, "--run=port", *TWO_RANKS, MASTER_PORT=str(port)) as process:
            status, (line,) = ended(process)
            assert (status, line) == (
                2,
                f"error: port {port} is in use: unset MASTER_PORT, or set it to a free one",
            )
            wait_until_nobody_is_left(process)


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_ctrl_c_during_the_imports_is_mute(tmp_path, script):
    line = [sys.executable, "-X", "importtime", str(ROOT / script), "--config", DEMO]
    process = subprocess.Popen(line, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, **AS_A_JOB)
    for imported in process.stderr:
        if "jsonargparse" in imported:  # what is imported first once signals are heeded
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert all(each.startswith("import time:") for each in err.splitlines()), err


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    with started(tmp_path, "--run=twice", *SIGNALLED, "--trainer.callbacks.times=2") as process:
        assert ended(process) == (130, [])
    assert not (tmp_path / "twice" / "checkpoints").exists()
