"""``configs/recipes`` on CIFAR-10, shortened for two cores: trained to their end, then under AutoAttack.

``python -m experiments.trained_recipes --root data [NAME ...]``: resumable, a folder a recipe; ``--page``
writes the page of what is there, and beside it the figures, from which a fresh checkout goes on.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from experiments.classifiers import train_once
from experiments.command import arguments, command, show
from experiments.kept import Kept
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import read_records, restore_records, write_records
from lightning_adv.models import computes_in_bf16
from lightning_adv.reports.storage import read_results
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval

__all__ = ["main"]

WIDTH = 16
STEPS = 375
"""Of an epoch: 48,000 images in batches of 128; 2,000 are held out."""
SHORT = 12
LONG = 6
"""Epochs of trainings with one step of attack and with several."""
EPS = 8
"""Over 255."""
COLUMNS = ["recipe", "passes", "hours", "epoch", "clean", "AutoAttack", "95 % interval"]
SHARES = ("clean", "AutoAttack")


@dataclass(frozen=True)
class Recipe:
    """A configuration, and what makes it shorter: everything in it happens at the same share of the training.

    Args:
        config: file.
        epochs: of the training.
        passes: forwards and backwards of a step for each image, over two.
        published: AutoAttack accuracy of the whole recipe, and of which network.
        shorter: epochs to options of ``train.py fit``.
        eps: of training and judgement, over 255; the guard of a larger one than the recipe's ends the training at a
            collapse with the weights that have collapsed.
    """

    config: str
    epochs: int
    passes: int
    published: str
    shorter: Callable[[int], tuple[str, ...]] = lambda epochs: ()
    eps: int = EPS


def _cycle(epochs: int) -> tuple[str, ...]:
    steps, half = STEPS * epochs, STEPS * epochs // 2
    at = "--model.lr_scheduler.step_size"
    return f"{at}_up={half}", f"{at}_down={steps - half}"


def _grows(epochs: int) -> tuple[str, ...]:
    return *_cycle(epochs), f"--model.objective.warmup_epochs={epochs // 2}"


def _falls(epochs: int) -> tuple[str, ...]:
    return (f"--model.lr_scheduler.milestones=[{epochs // 2},{epochs * 3 // 4}]",)


def _awp(epochs: int) -> tuple[str, ...]:
    return *_falls(epochs), f"--model.objective.warmup_epochs={epochs / 20}"


def _ikl(epochs: int) -> tuple[str, ...]:
    return *_awp(epochs), f"--model.objective.objective.warmup_epochs={epochs}"


RECIPES = {
    "N-FGSM": Recipe("recipes/cifar10_preact18_nfgsm", SHORT, 2, "", _cycle),
    "PGD": Recipe("recipes/cifar10_preact18_pgd", LONG, 11, "", _falls),
    "FGSM-RS": Recipe("cifar10_fast", SHORT, 2, "43.2, PreAct ResNet-18", _cycle),
    "TRADES, EMA": Recipe("recipes/cifar10_preact18_trades", LONG, 12, "53.1, WRN-34-10"),
    "IKL-AWP": Recipe("recipes/cifar10_preact18_ikl", LONG, 7, "57.1, WRN-34-10", _ikl),
    "TRADES-AWP, EMA": Recipe("recipes/cifar10_preact18_awp", LONG, 14, "56.2, WRN-34-10", _awp),
    "GradAlign": Recipe("recipes/cifar10_preact18_gradalign", SHORT, 6, "43.9, PreAct ResNet-18", _cycle),
    "FGSM-RS, eps 16": Recipe("cifar10_fast", SHORT, 2, "", _cycle, eps=16),
    "N-FGSM, eps 16": Recipe("recipes/cifar10_preact18_nfgsm", SHORT, 2, "", _cycle, eps=16),
    "FGSM-RS, eps 16, warm-up": Recipe("cifar10_fast", SHORT, 2, "", _grows, eps=16),
    "N-FGSM, eps 16, warm-up": Recipe("recipes/cifar10_preact18_nfgsm", SHORT, 2, "", _grows, eps=16),
}


def main() -> None:
    """Train and judge what is missing, write the page."""
    parser = arguments(__doc__, run="runs/trained_recipes", quick="one batch an epoch, 20 attacked images, no page")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of recipes; default all: {', '.join(RECIPES)}")
    parser.add_argument("--attacked", type=int, default=1000, help="test images under AutoAttack")
    parser.add_argument("--page", action="store_true", help="write the page of what is there")
    given = parser.parse_args()
    words = ["--root", given.root, "--attacked", str(given.attacked)]
    page = Page("experiments.trained_recipes", "trained_recipes", given.run, given=words)
    run, records = Path(given.run), RESULTS / "trained_recipes.json"
    settings = {name: f"{_setting(each)}, {given.attacked} attacked" for name, each in RECIPES.items()}
    restore_records(records, settings, run)
    if not given.page:
        for name in given.names or RECIPES:
            _train(RECIPES[name], run / name, given)
        for name in given.names or RECIPES:
            for row in _judged(name, run / name, settings[name], given):
                show(row, name)
    if given.quick or (given.names and not given.page):
        return
    found = read_records(run, "*/figures.json")
    if not is_draft():
        write_records(records, {name: settings[name] for name in RECIPES if f"{name}/figures.json" in found}, found)
    usual, large = [], []
    for name, recipe in RECIPES.items():
        if f"{name}/figures.json" in found:
            for row in _judged(name, run / name, settings[name], given):
                if recipe.eps == EPS:
                    usual.append([name, *row, recipe.published])
                else:
                    large.append([name, *row])
    text = prose(__file__, width=WIDTH, attacked=given.attacked, short=SHORT, long=LONG)
    tables = [Table("Recipes on CIFAR-10", [*COLUMNS, "published"], usual, percent=SHARES)]
    tables += [Table("One step at 16/255", [*COLUMNS, "the guard"], large, percent=SHARES)] if large else []
    page.write(text, tables, "CIFAR-10")


def _setting(recipe: Recipe) -> str:
    eps = "" if recipe.eps == EPS else f", eps {recipe.eps}/255"
    grows = ", eps grows" if recipe.shorter is _grows else ""
    return f"{recipe.config}, width {WIDTH}, {recipe.epochs} epochs{eps}{grows}"


def _larger(eps: int) -> tuple[str, ...]:
    """Options of a recipe whose training and judgement have another eps than its own; steps grow with it."""
    callbacks = "--trainer.callbacks"
    attacks = [f"{callbacks}.{each}" for each in ("attack", "attacks.pgd20")]  # of the guard and of the evaluation
    return (
        *(f"{each}.eps={eps}/255" for each in ("--model.objective", f"{callbacks}.attacks.fgsm", *attacks)),
        *(f"{each}.step_size={eps // 4}/255" for each in attacks),
        f"{callbacks}.action=stop",
    )


def _train(recipe: Recipe, run: Path, given: argparse.Namespace) -> None:
    """By the command line."""
    done = run / "report" / "results.json"
    if done.is_file() or (run / "figures.json").is_file():
        return
    options = [f"--config=configs/{recipe.config}.yaml", "--config=configs/callbacks/best_checkpoint.yaml"]
    options += [f"--data.root={given.root}", f'--model.backbone_options={{"width": {WIDTH}}}']
    options += ["--model.channels_last=true", "--trainer.precision=bf16-mixed", f"--trainer.max_epochs={recipe.epochs}"]
    options += [
        "--trainer.callbacks.max_samples=1000",
        "--trainer.callbacks.eps_sweep=null",
        *recipe.shorter(recipe.epochs),
        *(() if recipe.eps == EPS else _larger(recipe.eps)),
    ]
    options += ["--trainer.limit_train_batches=1"] if given.quick else []
    train_once(done, run, *options)


def _judged(name: str, run: Path, setting: str, given: argparse.Namespace) -> list[list[Cell]]:
    """A row for the best epoch by the held-out images, and one for the last where that is another."""

    def measure() -> list[list[Cell]]:
        checkpoints = {which: run / "checkpoints" / f"{which}.ckpt" for which in ("best", "last")}
        epochs = {which: _epoch(path) for which, path in checkpoints.items()}
        recipe, hours = RECIPES[name], _seconds(run) / 3600
        passes = STEPS * 128 * recipe.passes * epochs["last"] / 1e6
        rows = [
            [passes, hours, f"{which}, {epochs[which]}", *_attacked(path, run / f"under_{which}", recipe.eps, given)]
            for which, path in checkpoints.items()
            if which == "last" or epochs["best"] != epochs["last"]
        ]
        if recipe.eps != EPS:
            rows = [[*row, ""] for row in rows[:-1]] + [[*rows[-1], _guards_word(checkpoints["last"])]]
        return [[passes, hours, f"last and best, {epochs['last']}", *rows[0][3:]]] if len(rows) == 1 else rows

    return Kept(run).figures("figures", measure, setting)


def _seconds(run: Path) -> float:
    """By the clock, of all processes that trained: from the first to the last that each of them logged."""
    logged = ([event.wall_time for event in EventFileLoader(str(path)).Load()] for path in run.glob("events*"))
    return sum(max(times) - min(times) for times in logged)


def _epoch(checkpoint: Path) -> int:
    """Counted from 1."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"] + 1


def _guards_word(checkpoint: Path) -> str:
    callbacks = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    return "collapse" if callbacks["CatastrophicOverfittingGuard"]["collapsed"] else "quiet"


def _attacked(checkpoint: Path, run: Path, eps: int, given: argparse.Namespace) -> list[Cell]:
    """Clean and AutoAttack accuracy, and the interval of the latter."""
    results = run / "report" / "results.json"
    if not results.is_file():
        options = [
            f"--ckpt_path={checkpoint}",
            "--config=configs/evaluate/autoattack.yaml",
            f"--data.root={given.root}",
            f"--trainer.callbacks.attacks.autoattack.eps={eps}/255",
        ]
        options += ["--trainer.callbacks.precision=bf16"] if computes_in_bf16(torch.device("cpu")) else []
        options += [f"--trainer.callbacks.max_samples={20 if given.quick else given.attacked}", f"--run={run}"]
        subprocess.run([sys.executable, "evaluate.py", *options], check=True)
    (section,) = read_results(results)["sections"]
    key = "autoattack/robust_accuracy"
    (interval,) = (each["interval"] for each in section["key_figures"] if each["scalar"] == key)
    scalars = section["scalars"]
    return [scalars["clean_accuracy"], scalars[key], percent_interval(tuple(interval))]


if __name__ == "__main__":
    command(main)
