"""Whether bf16, channels last and compilation cost robust accuracy: the two PGD recipes of CIFAR-10, three seeds each.

``python -m experiments.precision --root data``: runs ``train.py`` with ``cifar10_pgd.yaml`` and with
``cifar10_pgd_fast.yaml`` on fewer images, attacks both in float32. Resumable, one folder a run under
``runs/precision``; ``--quick`` tries the way through.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from experiments.classifiers import silent_trainer
from experiments.command import arguments, command
from experiments.kept import Kept
from experiments.page import Page, prose
from lightning_adv.attacks import PGD
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.data import CIFAR10
from lightning_adv.modules import load_classifier
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["main"]

KEPT = Path("runs/precision")
RECIPES = {
    "float32": "configs/cifar10_pgd.yaml",
    "bf16, channels last, compiled": "configs/cifar10_pgd_fast.yaml",
}
SEEDS = (0, 1, 2)
EPS = 8 / 255


def main() -> None:
    """Train and judge what is missing, write the page."""
    parser = arguments(__doc__, quick="256 images, one epoch and seed, no page")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--attacked", type=int, default=1000, help="test images")
    parser.add_argument("--seeds", type=int, nargs="+", help="measure these alone, write no page")
    given = parser.parse_args()
    if given.quick:
        given.images, given.epochs, given.attacked = 256, 1, 64
    page = Page("experiments.precision", "precision", str(KEPT), seed=None)
    seeds = SEEDS[:1] if given.quick else given.seeds or SEEDS
    rows = [_row(name, seed, given) for seed in seeds for name in RECIPES]  # so that an interrupted run has pairs
    if given.quick or given.seeds:
        return
    columns = ["recipe", "seed", "clean accuracy", "robust accuracy", "95 % interval", "minutes of training"]
    said = []
    for name in RECIPES:
        shares = [100 * row[3] for row in rows if row[0] == name]
        said.append(f"{name}: {statistics.mean(shares):.2f} % ± {statistics.stdev(shares):.2f}")
    recipes = "` and `".join(RECIPES.values())
    text = prose(
        __file__,
        recipes=recipes,
        images=given.images,
        epochs=given.epochs,
        attacked=given.attacked,
        said="; ".join(said),
    )
    table = Table("Robust accuracy by precision", columns, rows, percent=("clean accuracy", "robust accuracy"))
    page.write(text, [table], "CIFAR-10")


def _row(name: str, seed: int, given: argparse.Namespace) -> list[Cell]:
    config = Path(RECIPES[name])
    folder = KEPT / f"{config.stem}_{given.images}_{given.epochs}_{seed}"

    def judged() -> list[Cell]:
        minutes = Kept(folder).figures("minutes", lambda: _train(config, folder, seed, given))
        return [name, str(seed), *_judge(folder, given), minutes]

    return Kept(folder).figures(f"judged_{given.attacked}", judged)


def _train(config: Path, folder: Path, seed: int, given: argparse.Namespace) -> float:
    """Minutes of ``train.py fit``."""
    line = ["fit", "--config", str(config), f"--seed_everything={seed}", f"--data.root={given.root}"]
    line += [f"--data.max_train_samples={given.images}", "--data.max_val_samples=500", f"--run={folder}"]
    line += ["--model.backbone_options={width: 16}", "--model.objective.attack.steps=5"]
    line += ["--model.objective.attack.step_size=4/255", f"--trainer.max_epochs={given.epochs}"]
    line += ["--trainer.callbacks.max_samples=100", "--trainer.callbacks.every_n_epochs=100", "--ckpt_path=last"]
    began = time.perf_counter()
    subprocess.run([sys.executable, "train.py", *line], check=True)
    return (time.perf_counter() - began) / 60


def _judge(folder: Path, given: argparse.Namespace) -> tuple[float, float, str]:
    """Clean and robust accuracy in float32, and the interval of the second."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    module = load_classifier(checkpoint, channels_last=False)
    data = CIFAR10(root=given.root, eval_batch_size=250)
    judge = AttackEvaluation({"pgd20": PGD(EPS, steps=20)}, max_samples=given.attacked, pictures="never")
    silent_trainer(judge).test(module, data, verbose=False)
    result = judge.result
    robust = result.attacks[0].robust_correct
    interval = percent_interval(wilson_interval(robust, result.samples))
    return result.clean_correct / result.samples, robust / result.samples, interval


if __name__ == "__main__":
    command(main)
