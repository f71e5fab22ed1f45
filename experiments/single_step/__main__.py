"""Whether training with one step of attack collapses: FGSM from a random start, N-FGSM, GradAlign, and PGD beside them.

``python -m experiments.single_step --root data``: resumable, a file a training under ``runs/single_step``; ``--quick``
tries the way through, ``--data CIFAR10`` takes about twenty times as long.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch import Tensor

from experiments.classifiers import silent_trainer
from experiments.command import arguments, command, show
from experiments.kept import Kept
from experiments.networks import net_for
from experiments.page import Page, prose
from lightning_adv.attacks import PGD, AutoAttack
from lightning_adv.attacks.budget import as_text
from lightning_adv.callbacks import AttackEvaluation, CatastrophicOverfittingGuard
from lightning_adv.data import CIFAR10, MNIST, CropFlip, ImageDataModule
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import NFGSM, AdversarialTraining, FastAdversarialTraining, GradAlign, Objective
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["main"]

RUNS = "runs/single_step"
SHARES = ("clean", "PGD-20", "AutoAttack")
COLUMNS = ["eps", "training", "epoch", *SHARES, "95 % interval of AutoAttack", "the guard"]
EPS = {"MNIST": (0.1, 0.2, 0.3), "CIFAR10": (8 / 255, 16 / 255)}
NETWORKS = {"MNIST": ("mnist_cnn", {}), "CIFAR10": ("preact_resnet18", {"width": 16})}


def methods(eps: float) -> dict[str, Callable[..., Objective]]:
    """Names to objectives that take ``warmup_epochs``; the step of PGD is that of its own default."""
    return {
        "FGSM-RS": partial(FastAdversarialTraining, eps),
        "N-FGSM": partial(NFGSM, eps),
        "GradAlign": partial(GradAlign, eps),
        "PGD-5": partial(AdversarialTraining, PGD(eps, steps=5)),
    }


class Watch(CatastrophicOverfittingGuard):
    """Notes the epoch of a collapse and the last good weights, and lets the training go on."""

    def __init__(self, attack: PGD) -> None:
        super().__init__(attack, action="stop")
        self.epoch: int | None = None
        self.good = 0
        self.before: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the last batch, as the guard does."""
        super().on_train_epoch_end(trainer, pl_module)
        trainer.should_stop = False
        if self.collapsed and self.epoch is None:
            self.epoch = trainer.current_epoch + 1
        if not (self.collapsed or self.doubted):
            self.good, self.before = trainer.current_epoch + 1, copy.deepcopy(pl_module.state_dict())


def main() -> None:
    """Train and judge what is missing, write the page."""
    parser = arguments(__doc__, run=RUNS, quick="256 images, one epoch, 20 attacked images, no page")
    parser.add_argument("--data", default="MNIST", choices=list(EPS))
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--attacked", type=int, default=300, help="test images")
    parser.add_argument("--eps", type=float, nargs="+", help="measure at these alone, write no page")
    given = parser.parse_args()
    if given.quick:
        given.images, given.epochs, given.attacked = 256, 1, 20
    page = Page("experiments.single_step", f"single_step_{given.data.lower()}", given.run)
    rows = []
    for eps in given.eps or EPS[given.data]:
        for name, make in methods(eps).items():
            found = _measured(f"{name}_{as_text(eps).replace('/', '_')}", eps, make, given)
            rows += [[as_text(eps), name, *row] for row in found]
            for row in rows[-len(found) :]:
                show(row)
    if given.quick or given.eps:
        return
    text = prose(__file__, data=given.data, images=given.images, epochs=given.epochs, attacked=given.attacked)
    page.write(text, [Table("Trainings with one step of attack", COLUMNS, rows, percent=SHARES)], given.data)


def _measured(name: str, eps: float, make: Callable[..., Objective], given: argparse.Namespace) -> list[list[Cell]]:
    """A row for the last epoch, behind one for the last good one where the training collapsed."""
    setting = f"{given.images} images, {given.epochs} epochs, {given.attacked} attacked"
    folder = Kept(Path(given.run) / given.data)
    return folder.figures(name, lambda: _trained_and_judged(eps, make, given), setting)


def _trained_and_judged(eps: float, make: Callable[..., Objective], given: argparse.Namespace) -> list[list[Cell]]:
    seed_everything(0, verbose=False)
    data = _data(given)
    backbone = net_for(data, *NETWORKS[given.data])
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)
    total = given.epochs * -(-given.images // data.batch_size)
    rate = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=total, pct_start=0.4)
    objective = make(warmup_epochs=given.epochs / 5)
    module = ClassifierModule(backbone, objective, optimizer, rate, "step", num_classes=data.num_classes)
    watch = Watch(PGD(eps, steps=5))
    silent_trainer(watch, max_epochs=given.epochs, limit_val_batches=0, enable_checkpointing=False).fit(
        module, datamodule=data
    )
    if watch.epoch is None:
        return [[str(given.epochs), *_judged(module, data, eps, given), "quiet"]]
    last = [str(given.epochs), *_judged(module, data, eps, given), f"collapse in epoch {watch.epoch}"]
    if not watch.before:
        return [last]
    module.load_state_dict(watch.before)
    return [[str(watch.good), *_judged(module, data, eps, given), ""], last]


def _data(given: argparse.Namespace) -> ImageDataModule:
    shared = {"root": given.root, "batch_size": 128, "max_train_samples": given.images, "eval_batch_size": 100}
    return MNIST(**shared) if given.data == "MNIST" else CIFAR10(**shared, augment=CropFlip())


def _judged(module: ClassifierModule, data: ImageDataModule, eps: float, given: argparse.Namespace) -> list[Cell]:
    """Clean and robust accuracies, and the interval of the last."""
    attacks = {"pgd20": PGD(eps, steps=20), "autoattack": AutoAttack(eps)}
    judge = AttackEvaluation(attacks, max_samples=given.attacked, pictures="never")
    silent_trainer(judge, enable_checkpointing=False).test(module, data, verbose=False)
    found = judge.result
    robust = [attack.robust_correct for attack in found.attacks]
    shares = [correct / found.samples for correct in (found.clean_correct, *robust)]
    return [*shares, percent_interval(wilson_interval(robust[-1], found.samples))]


if __name__ == "__main__":
    command(main)
