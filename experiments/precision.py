"""Whether bf16, channels last and compilation cost robust accuracy: the two PGD recipes of CIFAR-10, three seeds each.

``python -m experiments.precision --root data``: runs ``train.py`` with ``cifar10_pgd.yaml`` and with
``cifar10_pgd_fast.yaml`` on fewer images, attacks both in float32. Resumable, one folder a run under
``runs/precision``; ``--quick`` tries the way through.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from pytorch_lightning import Trainer

from experiments.page import write_page
from lightning_adv.attacks import PGD
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.data import CIFAR10
from lightning_adv.files import replace_atomically
from lightning_adv.modules import load_classifier
from lightning_adv.reports.run import run_info
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

KEPT = Path("runs/precision")
RECIPES = {
    "float32": "configs/cifar10_pgd.yaml",
    "bf16, channels last, compiled": "configs/cifar10_pgd_fast.yaml",
}
SEEDS = (0, 1, 2)
EPS = 8 / 255


def main() -> None:
    """Train and judge what is missing, write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--images", type=int, default=10_000, help="training images")
    arguments.add_argument("--epochs", type=int, default=4)
    arguments.add_argument("--attacked", type=int, default=1000, help="test images")
    arguments.add_argument("--seeds", type=int, nargs="+", help="measure these alone, write no page")
    arguments.add_argument("--quick", action="store_true", help="256 images, one epoch and seed, no page")
    given = arguments.parse_args()
    if given.quick:
        given.images, given.epochs, given.attacked = 256, 1, 64
    started = datetime.now(UTC)
    seeds = SEEDS[:1] if given.quick else given.seeds or SEEDS
    rows, means = [], {}
    for seed in seeds:  # in turn, so that an interrupted run has pairs
        for name in RECIPES:
            rows.append(_row(name, seed, given))
    for name in RECIPES:
        shares = [row[3] for row in rows if row[0] == name]
        spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
        means[name] = (statistics.mean(shares), spread)
    if given.quick or given.seeds:
        return
    columns = ["recipe", "seed", "clean accuracy", "robust accuracy", "95 % interval", "minutes of training"]
    said = "; ".join(f"{name}: {100 * mean:.2f} % ± {100 * spread:.2f}" for name, (mean, spread) in means.items())
    text = (
        f"The recipes `{'` and `'.join(RECIPES.values())}` with PreAct ResNet-18 of width 16, {given.images:,} "
        f"training images, {given.epochs} epochs, PGD of 5 steps; both attacked in float32 by PGD-20 at 8/255 on "
        f"{given.attacked:,} test images. Robust accuracy, mean and standard deviation over seeds: {said}. Minutes are "
        "those of the whole command beside other work, compilation included; the ratio of a step is in "
        "[performance](performance.md)."
    )
    command = ["python", "-m", "experiments.precision", *sys.argv[1:]]
    info = run_info(None, str(KEPT), started, finished=datetime.now(UTC), command=command)
    table = Table("Robust accuracy by precision", columns, rows, percent=("clean accuracy", "robust accuracy"))
    print(write_page("precision", "Precision and robust accuracy", text, [table], info, "CIFAR-10"))


def _row(name: str, seed: int, given: argparse.Namespace) -> list[Cell]:
    config = Path(RECIPES[name])
    folder = KEPT / f"{config.stem}_{given.images}_{given.epochs}_{seed}"
    kept = folder / f"judged_{given.attacked}.json"
    if not kept.is_file():
        minutes = _train(config, folder, seed, given)
        clean, robust, interval = _judge(folder, given)
        replace_atomically(kept, json.dumps([name, str(seed), clean, robust, interval, minutes]))
        print(kept.read_text(), flush=True)
    return json.loads(kept.read_text())


def _train(config: Path, folder: Path, seed: int, given: argparse.Namespace) -> float:
    """Minutes of ``train.py fit``."""
    line = ["fit", "--config", str(config), f"--seed_everything={seed}", f"--data.root={given.root}"]
    line += [f"--data.max_train_samples={given.images}", "--data.max_val_samples=500", f"--run={folder}"]
    line += ["--model.backbone_options={width: 16}", "--model.objective.attack.steps=5"]
    line += ["--model.objective.attack.step_size=4/255", f"--trainer.max_epochs={given.epochs}"]
    line += ["--trainer.callbacks.max_samples=100", "--trainer.callbacks.every_n_epochs=100", "--ckpt_path=last"]
    took = folder / "minutes.json"
    if not took.is_file():
        began = time.perf_counter()
        subprocess.run([sys.executable, "train.py", *line], check=True)
        replace_atomically(took, json.dumps((time.perf_counter() - began) / 60))
    return json.loads(took.read_text())


def _judge(folder: Path, given: argparse.Namespace) -> tuple[float, float, str]:
    """Clean and robust accuracy in float32, and the interval of the second."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    module = load_classifier(checkpoint, channels_last=False)
    data = CIFAR10(root=given.root, eval_batch_size=250)
    judge = AttackEvaluation({"pgd20": PGD(EPS, steps=20)}, max_samples=given.attacked, pictures="never")
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    Trainer(callbacks=[judge], **silent).test(module, data, verbose=False)
    result = judge.result
    robust = result.attacks[0].robust_correct
    interval = percent_interval(wilson_interval(robust, result.samples))
    return result.clean_correct / result.samples, robust / result.samples, interval


if __name__ == "__main__":
    main()
