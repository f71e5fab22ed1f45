"""Purification by a pixel diffusion model (DiffPure; Nie et al., 2022) on MNIST, by what the attacker knows.

``python -m experiments.diffusion_purification --root data`` trains classifier and diffusion model by ``train.py`` and
reports what ``PurificationEvaluation`` counts: one draw, mean, vote and worst of five. Trainings resume.
"""

import argparse
from pathlib import Path

import torch

from experiments.classifiers import MNIST_NET, checkpoint_of, silent_trainer, train_once
from experiments.command import arguments, command
from experiments.page import Page, prose
from lightning_adv.attacks import PGD
from lightning_adv.callbacks import PurificationEvaluation
from lightning_adv.data import MNIST
from lightning_adv.modules import load_classifier
from lightning_adv.purifiers import Diffusion
from lightning_adv.results.purification import PurificationRow
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

DRAWS = 5
COLUMNS = ["eps, attacker", "undefended", "one draw", "mean of 5", "vote of 5", "worst of 5"]


def main() -> None:
    """Train and measure, write the page."""
    parser = arguments(__doc__, run="runs/diffusion_purification")
    parser.add_argument("--epochs", type=int, default=5, help="of the diffusion model")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, default=40, help="of PGD")
    parser.add_argument("--attack-draws", type=int, default=8, help="that EOT averages over")
    parser.add_argument("--noise-level", type=float, default=0.1)
    parser.add_argument("--classifier", type=Path, help="checkpoint; trained if not given")
    given = parser.parse_args()
    page, run = Page("experiments.diffusion_purification", "diffusion_purification", given.run), Path(given.run)
    classifier = given.classifier or checkpoint_of("MNIST", given.root, run / "classifier", MNIST_NET)
    exported = _diffusion(given, run)
    evaluation = PurificationEvaluation(
        {"diffusion": Diffusion(str(exported), given.noise_level)},
        {f"pgd_{eps:g}": PGD(eps, steps=given.steps) for eps in (0.1, 0.2)},
        draws=DRAWS,
        attack_draws=given.attack_draws,
        max_samples=given.images,
        batch_size=50,
        pictures="never",
    )
    model = load_classifier(classifier)
    torch.manual_seed(0)
    silent_trainer(evaluation).test(model, MNIST(root=given.root, eval_batch_size=50), verbose=False)
    alone = {row.attack: row.accuracy for row in evaluation.result.rows if row.purifier == "none"}
    rows = [_row(row, alone[row.attack]) for row in evaluation.result.rows if row.purifier != "none"]
    title = "MNIST: accuracy by what the attacker knows"
    table = Table(title, COLUMNS, rows, percent=tuple(COLUMNS[1:]), note=prose(__file__, title))
    page.write(prose(__file__, **vars(given)), [table], "MNIST")


def _diffusion(given: argparse.Namespace, run: Path) -> Path:
    exported = run / f"diffusion_{given.epochs}" / "exported"
    config = ("--config=configs/purification/mnist_diffusion.yaml", f"--data.init_args.root={given.root}")
    options = (*config, f"--model.init_args.export={exported}", f"--trainer.max_epochs={given.epochs}")
    train_once(exported / "model_index.json", exported.parent / "training", *options)
    return exported


def _row(row: PurificationRow, undefended: float) -> list[Cell]:
    """One attacker: the share that is right in one draw, by the mean, by vote and in every draw."""
    name = "clean images" if row.attack == "none" else f"{row.attack.removeprefix('pgd_')}, {row.threat}"
    pooled = (row.mean_correct, row.vote_correct, row.worst_correct)
    return [name, undefended, row.accuracy, *(count / row.samples for count in pooled)]


if __name__ == "__main__":
    command(main)
