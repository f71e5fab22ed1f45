"""Who ends a worker of a command."""

import re
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lightning_adv.interruption import heeding


def answer(questions: Connection) -> None:
    while True:
        questions.send(questions.recv())


def waits_for(process: int, number: int) -> bool:
    """Whether a signal was sent to a process that it has not taken yet; another of its number would be lost in it."""
    pending = re.search(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(pending[1], 16) >> (number - 1) & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell who sent a signal")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_clusters_sigterm_leaves_a_worker_to_its_owner_who_ends_it():
    ours, theirs = get_context("fork").Pipe()
    with heeding(leads=True):
        worker = get_context("fork").Process(target=answer, args=(theirs,), daemon=True)
        worker.start()
    for question in ("there?", "still there?"):
        ours.send(question)
        assert ours.poll(60)
        assert ours.recv() == question
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        until = time.monotonic() + 60
        while waits_for(worker.pid, signal.SIGTERM):
            assert time.monotonic() < until
            time.sleep(0.01)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0
