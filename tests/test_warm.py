"""What a test sees of a warm process is what it sees of a cold one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment
from tests.warm import Warm

pytestmark = pytest.mark.slow

TELL = """
import json, multiprocessing, os, random, signal, sys, tempfile, threading
import numpy, torch
import lightning_adv.cli.entry, lightning_adv.callbacks, lightning_adv.models.factory, torch._dynamo
print("to stderr", file=sys.stderr)
told = {
    "arguments": sys.argv, "folder": os.getcwd(), "variables": dict(os.environ),
    "temporary": tempfile.gettempdir(), "typed": sys.stdin.read(),
    "parent": os.getppid(), "leads": (os.getsid(0), os.getpgrp()) == (os.getpid(), os.getpid()),
    "files": sorted(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task")),
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "path": sys.path, "name": __name__,
    "main": [sys.modules["__main__"].__dict__ is globals(), __spec__ is None, multiprocessing.current_process().name],
    "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
    "devices": torch.cuda.is_initialized(),
    "encoding": [sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.line_buffering],
    "drawn": [random.random(), numpy.random.rand(), torch.initial_seed()],
}
print(json.dumps(told))
sys.exit("the reason")
"""


def heed_ctrl_c() -> None:
    """As in a terminal, also where the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def told(popen: type[subprocess.Popen], folder: Path, variables: dict[str, str]) -> tuple[int, str, dict]:
    """Exit status, what stood on stderr, and what a script saw of its process."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    line = [sys.executable, "tell.py", "an argument"]
    job = {"start_new_session": True, "preexec_fn": heed_ctrl_c}
    with popen(line, cwd=folder, env=variables, text=True, **job, **pipes) as process:
        out, err = process.communicate("typed words")
    return process.returncode, err, json.loads(out)


def test_a_warm_process_sees_what_a_cold_one_sees_and_draws_anew(tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    variables = environment() | {"ITS": "own", "TMPDIR": str(tmp_path)}
    cold, warm, again = (told(popen, tmp_path, variables) for popen in (subprocess.Popen, Warm, Warm))
    drawn = [each[2].pop("drawn") for each in (cold, warm, again)]
    for each in (warm, again):
        assert each[:2] == cold[:2]
        assert {name: seen for name, seen in each[2].items() if seen != cold[2][name]} == {}
    assert cold[:2] == (1, "to stderr\nthe reason\n")
    assert (cold[2]["parent"], cold[2]["typed"]) == (os.getpid(), "typed words")
    assert all(len(set(numbers)) == 3 for numbers in zip(*drawn, strict=True))


FOLDERS = """
import gc, pathlib, tempfile
import lightning_adv.callbacks, wandb.sdk.data_types.utils
from wandb.sdk.data_types._private import MEDIA_TMP
assert pathlib.Path(MEDIA_TMP.name).is_dir()
print(MEDIA_TMP.name)
"""


def test_a_temporary_folder_of_an_import_is_each_process_own(tmp_path):
    (tmp_path / "folders.py").write_text(FOLDERS)
    found = []
    for _ in range(2):
        with Warm([sys.executable, "folders.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            found.append(process.communicate()[0].strip())
        assert process.returncode == 0
    assert len(set(found)) == 2
    assert not any(map(os.path.exists, found))


def test_a_warm_process_is_killed_and_waited_for_as_a_cold_one(tmp_path):
    (tmp_path / "wait.py").write_text("import threading; print('here', flush=True); threading.Event().wait()")
    with Warm([sys.executable, "wait.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        assert process.poll() is None
        process.kill()
        assert process.wait() == -signal.SIGKILL
