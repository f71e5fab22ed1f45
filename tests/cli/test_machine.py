"""What the machine refuses is one line that says what to do; a bug keeps its traceback."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_adv.cli.foreseen import foreseen
from lightning_adv.cli.runs import VARIABLE
from tests.cli.commands import DEMO, QUICK, TINY, Built, run


def refused(*args: object) -> str:
    outcome = run([*map(str, args)])
    assert outcome.status == 2, outcome.err
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if not line.startswith(("note: ", "run folder: "))]
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert len(line) < 420
    return line.removeprefix("error: ")


@pytest.fixture
def forgetful_wandb() -> Iterator[None]:
    """It remembers whether an earlier run in this process was offline."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("forgetful_wandb")
def test_weights_and_biases_without_an_account_says_how_to_log_in_or_do_without(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    said = refused("fit", "--config", DEMO, *QUICK, "--trainer.callbacks=[]", "--trainer.logger=WandbLogger")
    assert said.startswith("Weights & Biases: ")
    assert said.endswith("log in by wandb login, or do without the network by --trainer.logger.offline=true")


@pytest.mark.skipif(
    os.environ.get("CUDA_VISIBLE_DEVICES") is None and Path("/dev/nvidia0").exists(), reason="has a GPU"
)
def test_a_device_that_is_not_there_is_named():
    said = refused("fit", "--config", DEMO, *QUICK, "--trainer.accelerator=gpu", "--trainer.devices=99")
    assert said == "this machine has no such device that torch can use: leave trainer.accelerator out, or set it to cpu"


def test_more_processes_than_a_machine_bears_are_refused():
    said = refused("fit", "--config", DEMO, *QUICK, "--trainer.accelerator=cpu", "--trainer.devices=999")
    assert said.startswith(
        f"trainer.devices=999 starts 999 processes on a machine of {os.cpu_count()} cores: ask for at"
    )


def test_more_gpus_than_there_are_is_one_line():
    error = MisconfigurationException("You requested gpu: [0, 1]\n But your machine only has: [0]")
    assert foreseen(error) == "trainer.devices asks for GPU 0, 1, and this machine has 0: ask for fewer"


@pytest.mark.parametrize(
    "said",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:37518. This",
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [::1]:9: Connection reset by peer. This",
        "NCCL error: ncclRemoteError: A call failed possibly due to a network error or a remote process exiting early",
    ],
)
def test_a_collective_without_one_of_its_processes_is_one_line_with_the_command_to_go_on(said, monkeypatch):
    monkeypatch.setenv(VARIABLE, "runs/one")
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--config=a.yaml"])
    line = foreseen(RuntimeError(said))
    assert line.startswith("another process of the run is gone")
    assert line.endswith("; go on with: python train.py fit --config=a.yaml --run runs/one --ckpt_path last")


def test_going_on_with_other_data_is_refused(tmp_path):
    assert run(["fit", "--config", DEMO, *TINY, "--run=one"]).status == 0
    more = ("--data.max_train_samples=41", "--trainer.max_epochs=2", "--ckpt_path=last", "--run=one")
    said = refused("fit", "--config", DEMO, *TINY, *more)
    assert said.startswith("the checkpoint's run was trained on 40 images, and this one has 41: go on with the data")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line(small_disk):
    network = "--model.backbone_options={width: 16, hidden: 256}"  # whose checkpoint has over a megabyte
    said = refused("fit", "--config", DEMO, *TINY, network, f"--run={small_disk}/run")
    assert "No space left on device" in said
    assert str(small_disk) in said


class WritesTooMuch(Callback):
    """Finds the disk full where nobody expects it, as a logger's thread does."""

    def __init__(self, number: int = errno.ENOSPC) -> None:
        self.number = number

    def on_train_start(self, *_: object) -> None:
        raise OSError(self.number, os.strerror(self.number), "events.out")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_anywhere_is_one_line_with_the_file(number):
    error = OSError(number, os.strerror(number), "events.out")
    assert foreseen(error).startswith(f"events.out: {os.strerror(number)}; ")
    above = RuntimeError("the writer has stopped")
    above.__cause__ = error
    assert foreseen(above) == foreseen(error)


def test_an_error_of_a_logger_in_the_midst_of_a_run_is_one_line():
    said = refused("fit", "--config", DEMO, *QUICK, "--trainer.callbacks=tests.cli.test_machine.WritesTooMuch")
    assert said.startswith("events.out: No space left on device; free space on that disk")


class HasABug(Callback):
    """Does what nobody has foreseen."""

    def on_train_start(self, *_: object) -> None:
        raise KeyError("a bug")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError, match="a bug"):
        run(["fit", "--config", DEMO, *QUICK, "--trainer.callbacks=tests.cli.test_machine.HasABug"])


@pytest.mark.parametrize("able", [False, True])
def test_half_precision_that_a_processor_lacks_is_said_to_be_slow(monkeypatch, capsys, able):
    monkeypatch.setattr("lightning_adv.cli.app.computes_in_bf16", lambda device: able)  # no machine is of both kinds
    Built(["fit", "--config", DEMO, *QUICK, "--trainer.fast_dev_run=1", "--trainer.precision=bf16-mixed"])
    said = capsys.readouterr().err
    assert ("note: this machine's processor has no instructions for bfloat16" in said) is not able
