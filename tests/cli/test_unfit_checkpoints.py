"""A checkpoint that does not fit the run, whatever is wrong with it, costs one line and no training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import save

from lightning_adv.cli import evaluate, train
from tests.cli.commands import DEMO, FEW_IMAGES, TINY, run


def without(key: str) -> Callable[[dict], object]:
    return lambda checkpoint: checkpoint.pop(key)


def put(key: str, value: object) -> Callable[[dict], object]:
    return lambda checkpoint: checkpoint.__setitem__(key, value)


def at(*keys: str, value: object) -> Callable[[dict], object]:
    def spoil(checkpoint: dict) -> None:
        for key in keys[:-1]:
            checkpoint = checkpoint[key]
        checkpoint[keys[-1]] = value

    return spoil


def first(checkpoint: dict) -> str:
    """Name of a weight."""
    return next(name for name in checkpoint["state_dict"] if name.endswith("weight"))


def reshaped(checkpoint: dict) -> None:
    checkpoint["state_dict"][first(checkpoint)] = torch.zeros(3)


def not_a_number(checkpoint: dict) -> None:
    checkpoint["state_dict"][first(checkpoint)].flatten()[0] = torch.nan


def of_every_callback(state: object) -> Callable[[dict], object]:
    return lambda checkpoint: checkpoint["callbacks"].update(dict.fromkeys(checkpoint["callbacks"], state))


WEIGHTS = {
    "a weight is missing": (lambda c: c["state_dict"].pop(first(c)), "1 weights are missing"),
    "a weight is left over": (at("state_dict", "more", value=torch.zeros(1)), "1 are unknown to the model (more)"),
    "a weight has another shape": (reshaped, "file (3,), model ("),
    "a weight is not a number": (not_a_number, "holds NaN or infinite values in "),
    "a weight is a text": (lambda c: c["state_dict"].update({first(c): "x"}), "is not a tensor"),
    "no weights": (without("state_dict"), "its state_dict is missing, expected a dictionary"),
    "weights are a list": (put("state_dict", [1, 2]), "its state_dict is a list"),
    "weights are a number": (put("state_dict", 3), "its state_dict is a int"),
}
STATES = {
    "loops are a text": (put("loops", "x"), "its loops is a str, expected a dictionary"),
    "loops lack the one of fit": (at("loops", value={}), "fit_loop of its loops is damaged"),
    "progress is a text": (
        at("loops", "fit_loop", "epoch_progress", "current", "completed", value="x"),
        "fit_loop.epoch_progress.current.completed of its loops is damaged",
    ),
    "progress is negative": (
        at("loops", "fit_loop", "epoch_loop.batch_progress", "total", "ready", value=-3),
        "fit_loop.epoch_loop.batch_progress.total.ready of its loops is damaged",
    ),
    "callbacks are a list": (put("callbacks", []), "its callbacks is a list"),
    "states of callbacks are numbers": (of_every_callback(3), "callbacks keep no history of scalars"),
    "states of optimisers are a text": (put("optimizer_states", "x"), "its optimizer_states is a str"),
    "no states of optimisers": (without("optimizer_states"), "of optimisers and schedulers does not fit this run"),
    "states of no optimiser": (put("optimizer_states", []), "holds states of 0 optimisers and the model has 1"),
    "states of another optimiser": (put("optimizer_states", [{}]), "of the optimisers does not fit this run"),
    "states of another scheduler": (put("lr_schedulers", [3]), "of the schedulers does not fit this run"),
    "the epoch is a text": (put("epoch", "three"), "its epoch is a str, expected a int"),
    "the step is missing": (put("global_step", None), "its global_step is missing"),
    "the version is a number": (put("pytorch-lightning_version", 2), "its pytorch-lightning_version is a int"),
    "the version is none": (put("pytorch-lightning_version", "new"), "of the run does not fit this run"),
    "counts of the epoch are a text": (put("epoch_so_far", "x"), "of the model does not fit this run"),
    "the objective's state is a text": (put("objective", "x"), "what it holds of the objective is a str"),
}


def unfit(trained: Path, spoil: Callable[[dict], object], folder: Path) -> Path:
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    spoil(checkpoint)
    path = folder / "unfit.ckpt"
    torch.save(checkpoint, path)
    return path


def refused(outcome, says: str) -> None:
    assert outcome.status == 2, outcome.out + outcome.err
    error = [line for line in outcome.err.splitlines() if not line.startswith(("run folder", "note:"))]
    assert len(error) == 1, outcome.err
    assert error[0].startswith("error: ")
    assert says in error[0]


@pytest.mark.parametrize("kind", [*WEIGHTS, *STATES])
def test_training_does_not_go_on(trained, tmp_path, kind):
    spoil, says = (WEIGHTS | STATES)[kind]
    path = unfit(trained, spoil, tmp_path)
    refused(run(["fit", "--config", DEMO, "--ckpt_path", path, *TINY, "--trainer.max_epochs=2"], train), says)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_nothing_is_evaluated(trained, tmp_path, kind):
    spoil, says = WEIGHTS[kind]
    refused(run(["--ckpt_path", unfit(trained, spoil, tmp_path), *FEW_IMAGES], evaluate), says)


def test_another_architecture_is_named(trained, tmp_path):
    line = ["--ckpt_path", trained / "checkpoints" / "last.ckpt", *FEW_IMAGES, "--model.backbone_options.width=8"]
    refused(run(line, evaluate), " have another shape (backbone.")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("command", [train, evaluate])
def test_a_folder_of_shards_is_no_checkpoint_to_go_on_from(command):
    save({"state_dict": {"a": torch.ones(2)}}, checkpoint_id="shards", no_dist=True)
    line = ["--ckpt_path=shards", "--data=MNISTSubset", *FEW_IMAGES]
    line = ["fit", "--config", DEMO, *line] if command is train else line
    refused(run(line, command), "shards holds a checkpoint in shards, whose list is a pickle")
