"""Classifiers that several experiments share, trained by the command line and kept; and a Trainer that keeps silent."""

import subprocess
import sys
from pathlib import Path

from pytorch_lightning import Callback, Trainer

from lightning_adv.modules import ClassifierModule, load_classifier

__all__ = [
    "ADAM",
    "CIFAR10_NET",
    "CIFAR10_RUN",
    "MNIST_NET",
    "checkpoint_of",
    "fit",
    "silent_trainer",
    "train_once",
    "trained",
]

ADAM = ("--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.001")

MNIST_NET = (
    "--model.backbone=mnist_cnn",
    '--model.backbone_options={"width": 32, "hidden": 128}',
    *ADAM,
    "--trainer.max_epochs=8",
)

CIFAR10_NET = (
    "--model.backbone=convnet12",
    "--model.channels_last=true",
    *ADAM,
    "--model.lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR",
    "--model.lr_scheduler.T_max=30",
    "--trainer.max_epochs=30",
    "--trainer.precision=bf16-mixed",
    "--data.augment=CropFlip",
)
"""Twelve layers, which two cores train for 30 epochs in about three quarters of an hour; evaluated in float32."""

CIFAR10_RUN = Path("runs/classifiers/CIFAR10")


def train_once(done: Path, run: Path, *options: str) -> None:
    """By the command line, unless the file ``done`` says that it has been; an interrupted training goes on."""
    if not done.is_file():
        command = [sys.executable, "train.py", "fit", *options, f"--run={run}", "--ckpt_path=last"]
        subprocess.run(command, check=True)


def fit(done: Path, data: str, root: str, run: Path, arguments: tuple[str, ...], seed: int = 0) -> None:
    """Train on a data set in batches of 128, with a report; see :func:`train_once`."""
    given = [f"--seed_everything={seed}", f"--data={data}", f"--data.root={root}", "--data.batch_size=128"]
    train_once(done, run, *given, "--data.eval_batch_size=500", *arguments, "--trainer.callbacks+=Report")


def checkpoint_of(data: str, root: str, run: Path, arguments: tuple[str, ...], seed: int = 0) -> Path:
    """Checkpoint of the classifier of a run folder, trained at the first call.

    Args:
        data: class of the data.
        root: folder of the data.
        run: folder of the training.
        arguments: of ``train.py fit``.
        seed: of the training.
    """
    fit(run / "report" / "results.json", data, root, run, ("--model=ClassifierModule", *arguments), seed)
    return run / "checkpoints" / "last.ckpt"


def trained(data: str, root: str, run: Path, arguments: tuple[str, ...], seed: int = 0) -> ClassifierModule:
    """The classifier of :func:`checkpoint_of` in evaluation mode on the CPU."""
    return load_classifier(checkpoint_of(data, root, run, arguments, seed), channels_last=False)


def silent_trainer(*callbacks: Callback, **options: object) -> Trainer:
    """A Trainer on the CPU without loggers, bars and summaries."""
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(callbacks=list(callbacks), **silent, **options)
