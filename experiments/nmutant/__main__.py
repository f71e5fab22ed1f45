"""nMutant (Wang et al., 2018): Tables 1 and 3 to 6 and Figure 3, measured beside the paper's figures.

``python -m experiments.nmutant --root data`` does both data sets with 1,000 images an attack. Resumable: every pair of
attack and detector is kept under ``--run``.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from experiments.command import arguments, command
from experiments.networks import all_predicted
from experiments.nmutant.cells import Cells, batches
from experiments.nmutant.figure import mu_curves
from experiments.nmutant.plan import OPERATORS, OWN, PAPERS, PLANS, Plan, quick
from experiments.nmutant.repeats import change_rates, draws_table, seeds_table, victim, white_box_measures
from experiments.nmutant.samples import SETTINGS, make_samples
from experiments.nmutant.strength import strengths
from experiments.nmutant.tables import (
    WRONG,
    area_table,
    kappa_table,
    over_mu,
    sprt_table,
    strength_table,
    theorem_table,
    transfer_table,
    verdict_table,
)
from experiments.page import Page
from lightning_adv.data import ImageDataModule, float_images
from lightning_adv.detectors import LabelChangeRate
from lightning_adv.results.result import Table

__all__ = ["main"]

MUS = (1.1, 1.2, 1.5, 2.0)
Test = tuple[str, str, float]
"""Operator, mode and mu of a sequential test."""


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/nmutant", quick="MNIST, 100 images an attack, 300 mutations")
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), help="default both; MNIST if quick")
    parser.add_argument("--images", type=int, help="of each kind, and other numbers in proportion; default 1,000")
    parser.add_argument("--mutations", type=int, help="of each image for label change rates; default the plan's")
    parser.add_argument("--epochs", type=int, help="of the models' training; default the plan's")
    given = parser.parse_args()
    for name in given.data or (["MNIST"] if given.quick else list(SETTINGS)):
        page = Page("experiments.nmutant", f"nmutant_{name}{'_quick' * given.quick}", given.run)
        plan = quick(PLANS[name]) if given.quick else PLANS[name]
        asked = {"count": given.images, "mutations": given.mutations, "epochs": given.epochs}
        plan = replace(plan, **{key: value for key, value in asked.items() if value}).in_proportion()
        accuracy = _measure(name, given.root, Path(given.run) / name, plan, page)
        page.add(theorem_table(samples=1000 * plan.count))
        page.write(plan.text(name, accuracy), [], name)


def _measure(name: str, root: str, run: Path, plan: Plan, page: Page) -> float:
    model, images, cells = _measured_model(name, root, run, plan)
    test = images.datasets["test"]
    accuracy = cells.kept.figures("accuracy", lambda: _share(model, float_images(test.images), test.labels))
    rates = change_rates(cells, model, plan.mutations)
    page.add(kappa_table(name, rates))
    measures = {f"LCR, {operator}": each for operator, each in rates.items()}
    measures |= white_box_measures(cells, model, images, plan.fitted)
    page.add(area_table(name, measures))
    if plan.seeds > 1:
        page.add(_over_seeds(name, root, run, plan))
        page.add(draws_table(name, cells, model, plan.mutations))
    tests = _tests(cells, model, images, plan)
    page.picture(mu_curves(MUS, *over_mu(MUS, PAPERS, tests)), "mu", dpi=110)
    calibrated = {f"LCR, {operator}": tests[operator, "calibrated", 0.0] for operator in (PAPERS, OWN)}
    shown = {label: each for label, each in measures.items() if label in calibrated or not label.startswith("LCR")}
    page.add(verdict_table(name, shown, calibrated), sprt_table(name, tests))
    page.add(transfer_table(name, shown))
    page.add(strength_table(name, OWN, strengths(cells, SETTINGS[name], OWN, OPERATORS[OWN], model, plan.judged)))
    return accuracy


def _share(model: nn.Module, image: Tensor, label: Tensor) -> float:
    return int((all_predicted(model, image) == label).sum()) / len(label)


def _tests(cells: Cells, model: nn.Module, images: ImageDataModule, plan: Plan) -> dict[Test, dict[str, dict]]:
    """Sequential tests with the paper's operator and this project's own."""
    judged = Cells(cells.kept.folder, {kind: each.first(plan.judged) for kind, each in cells.samples.items()})
    few = {"mutations": plan.calibration[1], "max_mutations": plan.longest}
    calibrated = ("calibrated", 0.0)
    asked = {
        PAPERS: [*(("wald", mu) for mu in MUS), ("paper", MUS[0]), calibrated],
        OWN: [("wald", MUS[0]), calibrated],
    }
    tests: dict[Test, dict[str, dict]] = {}
    for operator, modes in asked.items():
        mutation = OPERATORS[operator]
        clean = partial(batches, images, "calibration", plan.calibration[0])
        kappa_1, own = cells.calibrated(f"calibration {operator}", LabelChangeRate(mutation, **few), model, clean)
        for mode, mu in modes:
            sprt = "paper" if mode == "paper" else "wald"
            detector = LabelChangeRate(mutation, kappa_1=kappa_1, mu=mu or own, sprt=sprt, **few)
            tests[operator, mode, mu] = judged.verdicts(f"sprt {mode} {mu} {operator}", detector, model)
    return tests


def _measured_model(
    name: str, root: str, run: Path, plan: Plan, seed: int = 0
) -> tuple[nn.Module, ImageDataModule, Cells]:
    """The model of a seed, the data, and what is kept of the model's samples."""
    model, images = victim(name, root, run, plan.epochs, seed), SETTINGS[name].data(root)
    folder = run / f"{plan.count}_samples"
    samples = make_samples(model, images, SETTINGS[name], plan.count, folder / "images")
    print(name, seed, {kind: len(each.index) for kind, each in samples.items()}, flush=True)
    return model, images, Cells(folder / "cells", samples)


def _over_seeds(name: str, root: str, run: Path, plan: Plan) -> Table:
    """Table 4 of several models."""
    measured, wrong = [], []
    for seed in range(plan.seeds):
        folder = run / f"seed_{seed}" if seed else run
        model, images, cells = _measured_model(name, root, folder, plan, seed)
        rates = {f"LCR, {key}": each for key, each in change_rates(cells, model, plan.mutations).items()}
        measured.append(rates | white_box_measures(cells, model, images, plan.fitted))
        wrong.append(cells.samples[WRONG])
    return seeds_table(name, plan.mutations, measured, wrong)


if __name__ == "__main__":
    command(main)
