"""Runs a command line in this process, on a few images and a small network."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from lightning_adv.cli import CLI, train
from lightning_adv.cli.entry import quiet
from lightning_adv.cli.help import PAGES, TRAIN

ROOT = Path(__file__).parent.parent.parent
CONFIGS = ROOT / "configs"
DEMO = str(CONFIGS / "demo.yaml")

FEW_IMAGES = (
    "--data.max_train_samples=40",
    "--data.max_val_samples=12",
    "--data.max_test_samples=12",
    "--data.batch_size=20",
)
SHORT = (
    "--trainer.max_epochs=1",
    "--trainer.callbacks.max_samples=6",
    "--trainer.callbacks.eps_sweep=[]",
    "--trainer.callbacks.pictures=never",  # to the loggers: the report has them all the same
)
SMALL_NET = ("--model.backbone_options={width: 4, hidden: 16}",)
QUICK = (*FEW_IMAGES, *SMALL_NET, "--trainer.max_epochs=1")
TINY = (*FEW_IMAGES, *SHORT, *SMALL_NET)
"""Overrides that make the demo a matter of a second."""

UNLOGGED = "--trainer.logger=false"
"""Without loggers no picture is drawn for one, which takes longer than a small evaluation."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


def run(args: list[str], command: Callable[[list[str]], None] = train) -> Outcome:
    """Run ``train.py`` (or another command) in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command([str(arg) for arg in args])
        except SystemExit as end:
            status = end.code or 0
    return Outcome(status, out.getvalue(), err.getvalue())


def resolved(args: list[str], command: Callable[[list[str]], None] = train) -> dict:
    """The configuration that a command line results in."""
    outcome = run([*args, "--print_config"], command)
    assert outcome.status == 0, outcome.err
    return yaml.safe_load(outcome.out)


class Built(CLI):
    """Builds model, data and trainer, and stops there."""

    def __init__(self, args: list[str], name: str = "built") -> None:
        quiet()
        super().__init__([str(arg) for arg in args], name, {"program": TRAIN, **PAGES})

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def last_callback(config: dict, name: str) -> dict:
    """Arguments of the last callback of that class."""
    return [each["init_args"] for each in config["trainer"]["callbacks"] if each["class_path"].endswith(f".{name}")][-1]
