"""Who ends a worker of a command."""

import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from lightning_adv.interruption import heeding


def answer(questions: Connection) -> None:
    while True:
        questions.send(questions.recv())


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
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0
