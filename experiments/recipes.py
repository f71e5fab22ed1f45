"""Every training recipe on one small net, judged by AutoAttack, with what a step costs: ``docs/results/recipes.md``.

``python -m experiments.recipes --root data``: resumable, one folder a recipe under ``runs/recipes``; ``--quick`` tries
the way through on a few images.
"""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import Trainer, seed_everything
from torch import Tensor, nn

from experiments.page import write_page
from lightning_adv.attacks import PGD, AutoAttack
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.cli.entry import quiet
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule
from lightning_adv.files import replace_atomically
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import (
    AWP,
    MART,
    TRADES,
    AdversarialTraining,
    CrossEntropy,
    FastAdversarialTraining,
    FreeAdversarialTraining,
    Objective,
)
from lightning_adv.reports.run import run_info
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval

KEPT = Path("runs/recipes")
REPLAYS = 4
COLUMNS = [
    "recipe",
    "norm",
    "clean accuracy",
    "robust accuracy",
    "95% interval",
    "forwards a step",
    "backwards a step",
    "passes over the floor",
    "time over the floor",
]


@dataclass(frozen=True)
class Study:
    """One data set with its net and budgets.

    Args:
        data: makes the data module.
        eps: Linf radius.
        l2: L2 radius.
        steps: of PGD in training.
        options: of the backbone ``mnist_cnn``.
        images: training images.
        epochs: of every recipe; free training replays and takes a ``REPLAYS``-th of them.
        warmup: epochs over which eps grows in every recipe but free training; with the whole eps from the start, PGD
            training of this net on CIFAR-10 ends in a constant answer (Madry et al. say so of small nets).
    """

    data: Callable[..., ImageDataModule]
    eps: float
    l2: float
    steps: int
    options: dict[str, int]
    images: int
    epochs: int
    warmup: float


STUDIES = {
    "MNIST": Study(MNIST, 0.1, 1.5, 10, {"width": 16, "hidden": 100}, 20_000, 8, warmup=0),
    "CIFAR-10": Study(CIFAR10, 8 / 255, 0.5, 5, {"width": 32, "hidden": 128}, 10_000, 8, warmup=2),
}


@dataclass(frozen=True)
class Recipe:
    """An objective, the norm it is judged in, and the passes of one step that its paper cannot do without.

    Args:
        objective: makes it.
        norm: of the AutoAttack.
        forwards: image passes of the training step, by the equation.
        backwards: the same.
    """

    objective: Callable[[], Objective]
    norm: str
    forwards: int
    backwards: int


def recipes(study: Study) -> dict[str, Recipe]:
    """Name to recipe; k steps of PGD are k forwards and k backwards, what follows is the loss's own."""
    k = study.steps
    pgd = partial(PGD, eps=study.eps, step_size=2.5 * study.eps / k, steps=k)
    kl = partial(PGD, eps=study.eps, step_size=2.5 * study.eps / k, steps=k, start="gaussian")
    l2 = partial(PGD, eps=study.l2, steps=k, norm="L2")
    warm = {"warmup_epochs": study.warmup}
    found = {
        "standard": Recipe(CrossEntropy, "Linf", 1, 1),
        "PGD": Recipe(lambda: AdversarialTraining(pgd(), **warm), "Linf", k + 1, k + 1),
        # the clean prediction in eval mode is one forward more, for it is not that of the loss
        "TRADES": Recipe(lambda: TRADES(kl(), beta=4.0, **warm), "Linf", k + 3, k + 2),
        "MART": Recipe(lambda: MART(kl(), beta=4.0, **warm), "Linf", k + 2, k + 2),
        "Fast (FGSM-RS)": Recipe(lambda: FastAdversarialTraining(study.eps, **warm), "Linf", 2, 2),
        "Free": Recipe(lambda: FreeAdversarialTraining(study.eps, replays=REPLAYS), "Linf", REPLAYS, REPLAYS),
        "PGD + AWP": Recipe(lambda: AWP(AdversarialTraining(pgd(), **warm), gamma=0.005), "Linf", k + 2, k + 2),
        "TRADES + AWP": Recipe(lambda: AWP(TRADES(kl(), beta=4.0, **warm), gamma=0.005), "Linf", k + 5, k + 4),
        "PGD, eps warm-up": Recipe(lambda: AdversarialTraining(pgd(), warmup_epochs=3), "Linf", k + 1, k + 1),
        "standard, L2": Recipe(CrossEntropy, "L2", 1, 1),
        "PGD, L2": Recipe(lambda: AdversarialTraining(l2(), **warm), "L2", k + 1, k + 1),
    }
    if study.warmup:
        del found["PGD, eps warm-up"]  # they all have it
    return found


def main() -> None:
    """Train and judge what is not there yet, then write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data", help="folder with the data sets")
    arguments.add_argument("--images", type=int, default=100, help="test images under AutoAttack")
    arguments.add_argument("--page", action="store_true", help="write the page from the rows that are there")
    arguments.add_argument("--quick", action="store_true", help="few images and one epoch, no page")
    given = arguments.parse_args()
    quiet()
    logging.disable(logging.WARNING)
    started = datetime.now(UTC)
    tables = []
    for title, study in STUDIES.items():
        rows = [_row(title, study, name, recipe, given) for name, recipe in recipes(study).items()]
        rows = [row for row in rows if row is not None]
        note = (
            f"{study.images:,} training images, {study.epochs} epochs (free training a quarter of them, each batch "
            f"{REPLAYS} times), Adam with a one-cycle schedule up to 2e-3; PGD with {study.steps} steps. Linf eps "
            f"{study.eps:.3g}, L2 eps {study.l2:g}. AutoAttack standard on {given.images} test images."
            + (f" Eps grows over the first {study.warmup:g} epochs (not in free training)." if study.warmup else "")
        )
        tables.append(Table(title, COLUMNS, rows, percent=("clean accuracy", "robust accuracy"), note=note))
    if given.quick:
        return
    text = (
        "Each recipe trains the same small convolutional net from the same seed and is attacked by AutoAttack. Clean "
        "accuracy is that of all test images. "
        "*Forwards*, *backwards*: image passes of one training step for each image of the batch, counted. *Passes over "
        "the floor*: their sum over that of the paper's equation. *Time over the floor*: CPU seconds of a step over "
        "those of the same passes with nothing between them (and the optimiser's step), median of paired runs."
    )
    info = run_info(0, str(KEPT), started, finished=datetime.now(UTC), command=["python", "-m", "experiments.recipes"])
    print(write_page("recipes", "Training recipes under AutoAttack", text, tables, info, "MNIST and CIFAR-10"))


def _row(title: str, study: Study, name: str, recipe: Recipe, given: argparse.Namespace) -> list[Cell] | None:
    folder = (KEPT / "quick" if given.quick else KEPT) / f"{title}-{name}".replace(" ", "_").replace(",", "")
    kept = folder / "row.json"
    if not kept.is_file():
        if given.page:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        row = _measured(study, recipe, folder, given)
        replace_atomically(kept, json.dumps([name, recipe.norm, *row]))
    row = json.loads(kept.read_text())
    print(title, *(f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row), flush=True)
    return row


def _measured(study: Study, recipe: Recipe, folder: Path, given: argparse.Namespace) -> list[Cell]:
    seed_everything(0)
    images, epochs = (512, 1) if given.quick else (study.images, study.epochs)
    limits = {"max_train_samples": images, "max_val_samples": 500}
    data = study.data(root=given.root, batch_size=128, eval_batch_size=50, **limits)
    data.setup("fit")
    free = isinstance(recipe.objective(), FreeAdversarialTraining)
    epochs = max(1, epochs // REPLAYS) if free else epochs
    steps = len(data.train_dataloader()) * epochs * (REPLAYS if free else 1)
    module = ClassifierModule(
        "mnist_cnn",
        objective=recipe.objective(),
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=2e-3, total_steps=steps + 1),
        lr_interval="step",
        num_classes=10,
        in_channels=data.in_channels,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        backbone_options=study.options,
    )
    eps = study.eps if recipe.norm == "Linf" else study.l2
    count = 4 if given.quick else given.images
    suite = {"autoattack": AutoAttack(eps, recipe.norm)}
    judge = AttackEvaluation(suite, max_samples=count, batch_size=50, verdicts=str(folder / "verdicts"))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    weights = folder / "weights.pt"
    if weights.is_file():
        module.load_state_dict(torch.load(weights, weights_only=True))
    else:
        Trainer(max_epochs=epochs, enable_checkpointing=False, num_sanity_val_steps=0, **options).fit(module, data)
        replace_atomically(weights, lambda file: torch.save(module.state_dict(), file))
    (tested,) = Trainer(callbacks=[judge], **options).test(module, data, verbose=False)
    (attack,) = judge.result.attacks
    cost = _cost(module, recipe, data)
    return [tested["test/clean_accuracy"], attack.robust_accuracy, percent_interval(attack.interval), *cost]


def _cost(module: ClassifierModule, recipe: Recipe, data: ImageDataModule) -> list[Cell]:
    """Forwards and backwards an image and step, their sum over the floor, and the time over that of the floor."""
    x = torch.rand(128, data.in_channels, *data.image_size, generator=torch.Generator().manual_seed(0))
    y = torch.arange(128) % data.num_classes
    net, objective = module.backbone.train(), recipe.objective()
    free = isinstance(objective, FreeAdversarialTraining)
    counts = _Counts(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0)

    def step() -> None:
        for _ in range(objective.replays if free else 1):
            loss, _ = objective(net, x, y)
            _descend(optimizer, loss)
            if free:
                objective.after_backward()

    def floor() -> None:
        attacks = _attack_steps(recipe)
        net.requires_grad_(False)
        for _ in range(attacks):
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(nn.functional.cross_entropy(net(leaf), y), leaf)
        net.requires_grad_(True)
        with torch.no_grad():
            for _ in range(recipe.forwards - recipe.backwards):
                net(x)
        rounds = objective.replays if free else 1
        for _ in range(rounds):
            leaf = x.clone().requires_grad_(free)
            losses = (recipe.backwards - attacks) // rounds
            _descend(optimizer, sum(nn.functional.cross_entropy(net(leaf), y) for _ in range(losses)))

    objective.at_epoch(100.0)  # past every warm-up
    step()
    passes = [counts.forwards / len(x), counts.backwards / len(x)]
    counts.remove()
    times: dict[Callable[[], None], list[float]] = {step: [], floor: []}
    for _ in range(9):
        for each, seconds in times.items():
            began = time.process_time()
            each()
            seconds.append(time.process_time() - began)
    over = statistics.median(a / b for a, b in zip(times[step], times[floor], strict=True))
    return [*passes, sum(passes) / (recipe.forwards + recipe.backwards), over]


def _attack_steps(recipe: Recipe) -> int:
    """Backwards of a step that go to the images only."""
    objective = recipe.objective()
    inner = objective.objective if isinstance(objective, AWP) else objective
    return getattr(getattr(inner, "attack", None), "steps", 0)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class _Counts:
    """Images that a net sees forwards, and whose gradient it is asked for."""

    def __init__(self, net: nn.Module) -> None:
        self.forwards = self.backwards = 0
        self._handle = net.register_forward_hook(self._note)

    def remove(self) -> None:
        """Stop counting."""
        self._handle.remove()

    def _note(self, net: nn.Module, images: tuple[Tensor], logits: Tensor) -> None:
        self.forwards += len(logits)
        if logits.requires_grad:
            logits.register_hook(self._note_backward)

    def _note_backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)


if __name__ == "__main__":
    main()
