import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_adv.cli.lock import NAME, lock_folder, unlock_folder
from lightning_adv.errors import InputError
from tests.cli.commands import DEMO, QUICK, run
from tests.processes import environment

HOLDER = """
import sys
from pathlib import Path
from lightning_adv.cli.lock import lock_folder
lock_folder(Path("shared"))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen]:
    """Another process, which keeps the folder ``shared`` until its input ends."""
    line = [sys.executable, "-c", HOLDER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(line, env=environment(), text=True, **pipes)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def unlocked() -> Iterator[None]:
    yield
    unlock_folder()


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_second_process_is_told_whose_folder_it_is_and_leaves_it_as_it_was(holder, command):
    outcome = run([command, "--config", DEMO, *QUICK, "--run=shared"])
    assert outcome.status == 2
    line = outcome.err.splitlines()[-1]
    assert line.startswith(f"error: shared is in use by process {holder.pid} on {os.uname().nodename} since 20")
    assert line.endswith("; wait for it, or name another folder by --run")
    assert [path.name for path in Path("shared").iterdir()] == [NAME]
    with pytest.raises(InputError, match="is in use by process"):  # the first one has it still
        lock_folder(Path("shared"))


def test_a_quick_check_writes_nothing_and_asks_nobody(holder):
    outcome = run(["fit", "--config", DEMO, *QUICK, "--run=shared", "--trainer.fast_dev_run=true"])
    assert outcome.status == 0, outcome.err


def test_the_kernel_takes_the_lock_of_a_killed_process_back(holder):
    holder.kill()
    holder.wait()
    assert (Path("shared") / NAME).exists()
    lock_folder(Path("shared"))


def test_a_process_that_waits_while_the_holder_ends_gets_a_lock_that_keeps_others_out(holder):
    holder.communicate("")  # ends, and leaves its file
    stale = os.open(f"shared/{NAME}", os.O_RDONLY)
    lock_folder(Path("shared"))
    unlock_folder()
    lock_folder(Path("shared"))  # a new file of the same name
    assert not os.path.samestat(os.fstat(stale), os.stat(f"shared/{NAME}"))
    os.close(stale)
    second = subprocess.run([sys.executable, "-c", HOLDER], env=environment(), capture_output=True, text=True)
    assert f"in use by process {os.getpid()} on" in second.stderr


def test_nothing_is_left_of_a_lock():
    Path("filled").mkdir()
    Path("filled/file").touch()
    for name in ("empty/run", "filled"):
        lock_folder(Path(name))
    unlock_folder()
    assert not Path("empty/run").exists()
    assert [path.name for path in Path("filled").iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_is_named():
    Path("file").touch()
    outcome = run(["fit", "--config", DEMO, *QUICK, "--run=file/run"])
    assert outcome.status == 2
    assert outcome.err == "error: file/run cannot be written: Not a directory; name another folder by --run\n"
    outcome = run(["fit", "--config", DEMO, *QUICK, "--run=file"])
    assert outcome.err == "error: file cannot be written: File exists; name another folder by --run\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write to")
def test_a_folder_without_permission_is_named():
    outcome = run(["fit", "--config", DEMO, *QUICK, "--run=/proc/run"])
    assert outcome.status == 2
    assert outcome.err.startswith("error: /proc/run cannot be written: ")
