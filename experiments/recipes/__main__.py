"""Every training recipe on one small net, judged by AutoAttack, with what a step costs: ``docs/results/recipes.md``.

``python -m experiments.recipes --root data``: resumable, one folder a recipe under ``runs/recipes``.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import seed_everything
from torch import Tensor

from experiments.classifiers import silent_trainer
from experiments.command import arguments, command, show
from experiments.kept import Kept
from experiments.networks import net_for
from experiments.page import Page, prose
from experiments.recipes.cost import cost_of_a_step
from experiments.recipes.studies import REPLAYS, STUDIES, Recipe, Study, recipes
from lightning_adv.attacks import AutoAttack
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.cli.entry import quiet
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import FreeAdversarialTraining
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval

__all__ = ["main"]

KEPT = Path("runs/recipes")
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


def main() -> None:
    """Train and judge what is not there yet, then write the page."""
    parser = arguments(__doc__, quick="few images and one epoch, no page")
    parser.add_argument("--images", type=int, default=100, help="test images under AutoAttack")
    parser.add_argument("--page", action="store_true", help="write the page from the rows that are there")
    given = parser.parse_args()
    page = Page("experiments.recipes", "recipes", str(KEPT))
    quiet()
    logging.disable(logging.WARNING)
    tables = []
    for title, study in STUDIES.items():
        rows = [_row(title, study, name, recipe, given) for name, recipe in recipes(study).items()]
        rows = [row for row in rows if row is not None]
        warm = prose(__file__, "Eps grows", warmup=study.warmup) if study.warmup else ""
        note = prose(__file__, "Training", replays=REPLAYS, attacked=given.images, warm=warm, **vars(study)).strip()
        tables.append(Table(title, COLUMNS, rows, percent=("clean accuracy", "robust accuracy"), note=note))
    if given.quick:
        return
    page.write(prose(__file__), tables, "MNIST and CIFAR-10")


def _row(title: str, study: Study, name: str, recipe: Recipe, given: argparse.Namespace) -> list[Cell] | None:
    folder = (KEPT / "quick" if given.quick else KEPT) / f"{title}-{name}".replace(" ", "_").replace(",", "")
    if given.page and not (folder / "row.json").is_file():
        return None
    row = Kept(folder).figures("row", lambda: [name, recipe.norm, *_measured(study, recipe, folder, given)])
    show(row, title)
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
        net_for(data, "mnist_cnn", study.options),
        objective=recipe.objective(),
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=2e-3, total_steps=steps + 1),
        lr_interval="step",
        num_classes=10,
    )
    eps = study.eps if recipe.norm == "Linf" else study.l2
    count = 4 if given.quick else given.images
    suite = {"autoattack": AutoAttack(eps, recipe.norm)}
    judge = AttackEvaluation(suite, max_samples=count, batch_size=50, verdicts=str(folder / "verdicts"))

    def weights() -> dict[str, Tensor]:
        trainer = silent_trainer(max_epochs=epochs, enable_checkpointing=False, num_sanity_val_steps=0)
        trainer.fit(module, data)
        return module.state_dict()

    module.load_state_dict(Kept(folder).tensors("weights", weights))
    (tested,) = silent_trainer(judge).test(module, data, verbose=False)
    (attack,) = judge.result.attacks
    robust = [attack.robust_accuracy, percent_interval(attack.interval)]
    return [tested["test/clean_accuracy"], *robust, *cost_of_a_step(module.backbone, recipe, data)]


if __name__ == "__main__":
    command(main)
