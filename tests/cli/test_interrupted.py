"""SIGTERM and Ctrl-C, sent to this very process at chosen places: what is said, saved, reported and gone on with."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lightning_adv.cli import evaluate
from lightning_adv.cli.interrupted import tell_interrupted
from lightning_adv.interruption import Interrupted
from tests.cli.commands import DEMO, FEW_IMAGES, SMALL_NET, Outcome, run

EPOCHS, STEPS = 3, 4
FIT = (
    "fit",
    "--config",
    DEMO,
    *FEW_IMAGES,
    *SMALL_NET,
    "--data.batch_size=10",
    f"--trainer.max_epochs={EPOCHS}",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.callbacks.max_samples=6",
    "--trainer.callbacks.eps_sweep=[]",
    "--trainer.callbacks.pictures=never",
)


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """Where the tests run in the background, Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = run([*FIT, "--run", folder])
    assert outcome.status == 0, outcome.err
    return folder


def interrupted(number: int, hook: str, epoch: int = 0, batch: int | None = None, *options: str) -> Outcome:
    accident = ["--trainer.callbacks+=tests.accidents.Signalled", f"--trainer.callbacks.number={number:d}"]
    accident += [f"--trainer.callbacks.hook={hook}", f"--trainer.callbacks.epoch={epoch}"]
    accident += [] if batch is None else [f"--trainer.callbacks.batch={batch}"]
    return run([*FIT, *options, "--run", "my run", *accident])


def said(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if not line.startswith(("note: ", "run folder: "))]


def go_on(outcome: Outcome) -> Outcome:
    """Type what was said; the accident does not happen again."""
    (line,) = said(outcome)
    program, *args = shlex.split(line.partition("; go on with: ")[2])[1:]
    assert program == sys.argv[0]
    assert args[-4:] == ["--run", "my run", "--ckpt_path", "last"]
    return run(args)


def results(folder: Path) -> dict:
    return json.loads((folder / "report" / "results.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


PLACES = {
    "a step of the first epoch": ("on_train_batch_start", 0, 1, "in epoch 1 of 3", 0),
    "the step before validation": ("on_train_batch_start", 0, STEPS - 1, "in epoch 1 of 3", 0),
    "the first validation": ("on_validation_batch_start", 0, 0, "in epoch 1 of 3", 0),
    "after an evaluation in validation": ("on_validation_epoch_end", 1, None, "in epoch 2 of 3", 1),
    "after validation": ("on_validation_end", 1, None, "after epoch 2 of 3", 2),
    "the last step": ("on_train_batch_start", EPOCHS - 1, STEPS - 1, "in epoch 3 of 3", 2),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_run_that_was_asked_to_end_says_how_to_go_on_and_ends_with_the_figures_of_a_whole_one(place, whole):
    hook, epoch, batch, where, done = place
    number = signal.SIGINT if epoch else signal.SIGTERM
    outcome = interrupted(number, hook, epoch, batch)
    assert outcome.status == 128 + number
    assert said(outcome)[0].startswith(f"interrupted {where}; go on with: python ")
    if done:
        document = results(Path("my run"))
        assert (document["run"]["finished"], document["run"]["ended"]) == (None, f"interrupted, {done} of 3 epochs")
        assert f"interrupted, {done} of 3 epochs" in Path("my run/report/index.html").read_text()
    resumed = go_on(outcome)
    assert resumed.status == 0, resumed.err
    same = weights(Path("my run"))
    assert all(torch.equal(value, same[name]) for name, value in weights(whole).items())
    found, expected = results(Path("my run")), results(whole)
    assert (found["run"]["ended"], found["run"]["finished"] is None) == (None, False)
    assert [each["scalars"] for each in found["sections"]] == [each["scalars"] for each in expected["sections"]]
    assert found["history"] == expected["history"]


def test_an_evaluation_that_was_asked_to_end_keeps_its_verdicts_and_reports_what_it_has(trained):
    typed = ["--ckpt_path", trained / "checkpoints/last.ckpt", "--trainer.callbacks.max_samples=6"]
    typed += ["--trainer.callbacks+=tests.accidents.Signalled", f"--trainer.callbacks.number={signal.SIGTERM:d}"]
    outcome = run([*typed, "--trainer.callbacks.hook=on_test_epoch_end", "--run", "audit"], evaluate)
    assert outcome.status == 143
    (line,) = said(outcome)
    assert line.startswith("interrupted in test; go on with: python ")
    document = results(Path("audit"))
    assert (document["run"]["finished"], document["run"]["ended"]) == (None, "interrupted")
    args = shlex.split(line.partition("; go on with: ")[2])[2:]
    assert args[-2:] == ["--run", "audit"]
    resumed = run(args, evaluate)
    assert resumed.status == 0, resumed.err
    assert "attacks: going on after 6 verdicts" in resumed.err or "verdicts of an earlier run" in resumed.err
    again = results(Path("audit"))
    assert [each["scalars"] for each in again["sections"]] == [each["scalars"] for each in document["sections"]]
    assert again["run"]["finished"] is not None


def test_a_quick_check_that_was_asked_to_end_has_nothing_to_go_on_with():
    outcome = interrupted(signal.SIGTERM, "on_train_batch_start", 0, 0, "--trainer.fast_dev_run=3")
    assert (outcome.status, said(outcome)) == (143, ["interrupted in epoch 1 of 1"])
    assert not Path("my run").exists()


def test_a_run_that_saves_nothing_ends_after_the_step():
    outcome = interrupted(signal.SIGTERM, "on_train_batch_start", 0, 1, "--trainer.enable_checkpointing=false")
    assert outcome.status == 143
    assert said(outcome)[0].startswith("interrupted in epoch 1 of 3; go on with: ")


def test_a_signal_after_the_last_step_lets_a_run_finish():
    outcome = interrupted(signal.SIGTERM, "on_train_epoch_end", EPOCHS - 1)
    assert outcome.status == 0, outcome.err
    assert results(Path("my run"))["run"]["finished"] is not None


@pytest.mark.parametrize("array", [False, True])
def test_slurms_signal_before_the_time_limit_saves_after_the_step_and_puts_the_job_back(array, whole, monkeypatch):
    """SLURM is its variables and a program ``scontrol``, as far as a process sees."""
    variables = {"JOB_ID": "77", "NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    variables |= {"ARRAY_JOB_ID": "70", "ARRAY_TASK_ID": "7"} if array else {}
    for name, value in (variables | {"JOB_NAME": "name", "NODELIST": "127.0.0.1"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    scontrol = Path("bin/scontrol")
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\necho "$@" >> asked\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent.resolve()}{os.pathsep}{os.environ['PATH']}")
    outcome = interrupted(signal.SIGUSR1, "on_train_batch_start", 1, 1)
    assert outcome.status == 143
    (line,) = said(outcome)
    assert line.startswith("interrupted in epoch 2 of 3; go on with: the same launcher, and ")
    assert Path("asked").read_text() == f"requeue {'70_7' if array else '77'}\n"
    assert not list(Path("my run").glob("hpc_ckpt*")), "there is one checkpoint to go on from"
    resumed = run(shlex.split(line.partition("launcher, and ")[2])[1:])
    assert resumed.status == 0, resumed.err
    same = weights(Path("my run"))
    assert all(torch.equal(value, same[name]) for name, value in weights(whole).items())


def test_a_job_that_does_not_go_back_into_the_queue_says_so(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", "")
    interruption = Interrupted(signal.SIGTERM)
    interruption.requeue = True
    assert tell_interrupted(interruption, ["fit"]) == 143
    assert capsys.readouterr().err.splitlines()[-1].startswith("warning: job 77 is not back in the queue (")
