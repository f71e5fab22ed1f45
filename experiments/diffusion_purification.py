"""Purification by a pixel diffusion model (DiffPure; Nie et al., 2022) on MNIST, by what the attacker knows.

``python -m experiments.diffusion_purification --root data`` trains classifier and diffusion model by ``train.py`` and
reports what ``PurificationEvaluation`` counts: one draw, mean, vote and worst of five. Trainings resume.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
from pytorch_lightning import Trainer

from experiments.lgap import CLASSIFIER, train_once
from experiments.page import write_page
from lightning_adv.attacks import PGD
from lightning_adv.callbacks import PurificationEvaluation
from lightning_adv.data import MNIST
from lightning_adv.modules import load_classifier
from lightning_adv.purifiers import Diffusion
from lightning_adv.reports.run import run_info
from lightning_adv.results.purification import PurificationRow
from lightning_adv.results.result import Cell, Table

DRAWS = 5
COLUMNS = ["eps, attacker", "undefended", "one draw", "mean of 5", "vote of 5", "worst of 5"]


def main() -> None:
    """Train and measure, write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/diffusion_purification")
    arguments.add_argument("--epochs", type=int, default=5, help="of the diffusion model")
    arguments.add_argument("--images", type=int, default=500)
    arguments.add_argument("--steps", type=int, default=40, help="of PGD")
    arguments.add_argument("--attack-draws", type=int, default=8, help="that EOT averages over")
    arguments.add_argument("--noise-level", type=float, default=0.1)
    arguments.add_argument("--classifier", help="checkpoint; trained if not given")
    given = arguments.parse_args()
    started, run = datetime.now(UTC), Path(given.run)
    classifier, exported = _classifier(given, run), _diffusion(given, run)
    evaluation = PurificationEvaluation(
        {"diffusion": Diffusion(str(exported), given.noise_level)},
        {f"pgd_{eps:g}": PGD(eps, steps=given.steps) for eps in (0.1, 0.2)},
        draws=DRAWS,
        attack_draws=given.attack_draws,
        max_samples=given.images,
        batch_size=50,
        pictures="never",
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    model = load_classifier(classifier)
    torch.manual_seed(0)
    Trainer(callbacks=[evaluation], **quiet).test(model, MNIST(root=given.root, eval_batch_size=50), verbose=False)
    alone = {row.attack: row.accuracy for row in evaluation.result.rows if row.purifier == "none"}
    rows = [_row(row, alone[row.attack]) for row in evaluation.result.rows if row.purifier != "none"]
    note = "Clean images first. Blind is a transfer attack; bpda takes the identity for the purifier's gradient."
    table = Table("MNIST: accuracy by what the attacker knows", COLUMNS, rows, percent=tuple(COLUMNS[1:]), note=note)
    info = run_info(
        0, str(run), started, finished=datetime.now(UTC),
        command=["python", "-m", "experiments.diffusion_purification", *sys.argv[1:]],
    )  # fmt: skip
    text = (
        f"{given.images} test images, PGD of {given.steps} steps, gradients under EOT and the exact one the mean of "
        f"{given.attack_draws} draws; t* = {given.noise_level:g}, 4 evaluations, a network of .7 million weights after "
        f"{given.epochs} epochs. The headline is the exact gradient (adaptive), the blind figure a footnote."
    )
    print(write_page("diffusion_purification", "Purification by diffusion", text, [table], info, "MNIST"))


def _classifier(given: argparse.Namespace, run: Path) -> Path:
    if given.classifier:
        return Path(given.classifier)
    folder = run / "classifier"
    options = (*CLASSIFIER, "--seed_everything=0", f"--data.root={given.root}", "--trainer.callbacks+=Report")
    train_once(folder / "report" / "results.json", folder, *options)
    return folder / "checkpoints" / "last.ckpt"


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
    main()
