"""Two ranks of one thread beside one rank of two threads: seconds of training and of AutoAttack, in turn.

``python -m benchmarks.ranks training --devices 2 --root data`` is one rank's work, started by :func:`ranks_rows`.
"""

import argparse
import json
import logging
import os
import statistics
import time
import warnings
from functools import partial

from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.bench import in_a_process
from benchmarks.subjects import Subject
from benchmarks.training import module
from experiments.classifiers import silent_trainer
from experiments.command import command, show
from experiments.cost import in_turn, ratio
from lightning_adv.attacks import AutoAttack
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.data import CIFAR10, CropFlip
from lightning_adv.modules import ClassifierModule
from lightning_adv.results.result import Cell

__all__ = ["rank_seconds", "ranks_rows"]

BATCH, BATCHES = 128, 8
"""Images of a step over all ranks, and steps that are timed."""

ATTACKED = 128
"""Images under AutoAttack, in batches of 16."""


def ranks_rows(root: str, rounds: int) -> list[list[Cell]]:
    """What, seconds of one rank with two threads, of two ranks with one, and the ratio: median over rounds."""
    rows: list[list[Cell]] = []
    for work in ("training", "AutoAttack"):
        ranks = {devices: partial(rank_seconds, work, devices, root, 2 // devices) for devices in (1, 2)}
        one, two = in_turn(ranks, rounds).values()
        rows.append([work, statistics.median(one), statistics.median(two), ratio(one, two)])
        show(rows[-1])
    return rows


def rank_seconds(work: str, devices: int, root: str, threads: int) -> float:
    """Wall seconds of "training" or "AutoAttack" on so many ranks, each with so many threads."""
    command = (work, "--devices", devices, "--root", root)
    (seconds,) = in_a_process("benchmarks.ranks", *command, environment={"OMP_NUM_THREADS": str(threads)})
    return seconds


def main() -> None:
    """Do the work on so many ranks; rank zero prints the seconds."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("work", choices=["training", "AutoAttack"])
    arguments.add_argument("--devices", type=int, required=True)
    arguments.add_argument("--root", default="data")
    given = arguments.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    clock = Clock()
    ranks = {"devices": given.devices, "strategy": "ddp" if given.devices > 1 else "auto"}
    run = training if given.work == "training" else attacked
    run(given.root, given.devices, clock, {**ranks, "enable_checkpointing": False})
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(json.dumps([clock.seconds]))


class Clock(Callback):
    """Wall seconds from the end of the first training batch, or the start of the test, to the end."""

    def __init__(self) -> None:
        self.began = self.seconds = 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Starts after the first step, which allocates and compiles."""
        if trainer.global_step == 1:
            self.began = time.perf_counter()
        self.seconds = time.perf_counter() - self.began

    def on_test_start(self, *_: object) -> None:
        """Starts."""
        self.began = time.perf_counter()

    def on_test_end(self, *_: object) -> None:
        """Ends."""
        self.seconds = time.perf_counter() - self.began


def training(root: str, devices: int, clock: Clock, options: dict) -> None:
    """PGD-10 adversarial training of the network of :mod:`benchmarks.training`, the same images a step."""
    data = CIFAR10(root=root, batch_size=BATCH // devices, augment=CropFlip())
    limits = {"max_epochs": 1, "limit_train_batches": BATCHES + 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    silent_trainer(clock, **limits, **options).fit(module(), data)


def attacked(root: str, devices: int, clock: Clock, options: dict) -> None:
    """AutoAttack standard on test images that a small robust network classifies correctly."""
    on = Subject("MNIST", root, ATTACKED)
    evaluation = AttackEvaluation({"autoattack": AutoAttack(on.eps)}, batch_size=16, pictures="never")
    loader = DataLoader(TensorDataset(on.x, on.y), batch_size=ATTACKED)
    silent_trainer(evaluation, clock, **options).test(ClassifierModule(on.model, num_classes=10), loader, verbose=False)


if __name__ == "__main__":
    command(main)
