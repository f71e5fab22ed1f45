"""Classifiers that several experiments share, trained by the command line and kept."""

import subprocess
import sys
from pathlib import Path

from lightning_adv.modules import ClassifierModule, load_classifier

__all__ = ["ADAM", "CIFAR10_NET", "CIFAR10_RUN", "fit", "trained"]

ADAM = ("--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.001")

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


def fit(done: Path, data: str, root: str, run: Path, arguments: tuple[str, ...], seed: int = 0) -> None:
    """Train by the command line, unless the file ``done`` says that it has been; an interrupted training goes on."""
    if done.is_file():
        return
    given = [f"--seed_everything={seed}", f"--data={data}", f"--data.root={root}", "--data.batch_size=128"]
    given += ["--data.eval_batch_size=500", *arguments, "--trainer.callbacks+=Report", f"--run={run}"]
    subprocess.run([sys.executable, "train.py", "fit", *given, "--ckpt_path=last"], check=True)


def trained(data: str, root: str, run: Path, arguments: tuple[str, ...], seed: int = 0) -> ClassifierModule:
    """The classifier of a run folder in evaluation mode on the CPU; trained at the first call."""
    fit(run / "report" / "results.json", data, root, run, ("--model=ClassifierModule", *arguments), seed)
    checkpoint = run / "checkpoints" / "last.ckpt"
    return load_classifier(checkpoint, channels_last=False)
