"""nMutant beside the first model: other seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from torch import Tensor, nn

from experiments.classifiers import CIFAR10_RUN, trained
from experiments.nmutant.cells import Cells, fitted, white_box
from experiments.nmutant.plan import OPERATORS, PAPERS
from experiments.nmutant.samples import KINDS, SETTINGS, InBfloat16, Samples
from experiments.nmutant.tables import WRONG, kind_areas
from experiments.page import prose
from lightning_adv.data import ImageDataModule
from lightning_adv.detectors import LabelChangeRate
from lightning_adv.results.result import Cell, Table

__all__ = ["change_rates", "draws_table", "seeds_table", "victim", "white_box_measures"]

DRAWS = 3
"""Seeds of the mutations that the paper's detector is repeated with."""


def victim(name: str, root: str, run: Path, epochs: int, seed: int = 0) -> nn.Module:
    """The classifier of a data set in evaluation mode, trained with a seed if it was not kept."""
    setting = SETTINGS[name]
    folder = CIFAR10_RUN if name == "CIFAR10" and not seed else run / "training"
    model = trained(name, root, folder, (*setting.training, f"--trainer.max_epochs={epochs}"), seed)
    return InBfloat16(model).eval() if setting.bf16 else model


def change_rates(cells: Cells, model: nn.Module, mutations: int) -> dict[str, dict[str, Tensor]]:
    """Label change rates under each operator."""
    return {
        operator: cells.scores(f"lcr {operator}", LabelChangeRate(mutation, mutations=mutations), model)
        for operator, mutation in OPERATORS.items()
    }


def white_box_measures(
    cells: Cells, model: nn.Module, images: ImageDataModule, count: int
) -> dict[str, dict[str, Tensor]]:
    """Measures of KD, MU and LID, fitted on so many training images."""
    return {
        label: cells.scores(label, detector, model, fitted(detector, model, images, count))
        for label, detector in white_box().items()
    }


def seeds_table(
    name: str, mutations: int, by_seed: Sequence[Mapping[str, Mapping[str, Tensor]]], wrong: Sequence[Samples]
) -> Table:
    """Table 4 over several models: mean and standard deviation of the AUROC.

    Args:
        name: of the data set.
        mutations: an image, of the label change rate.
        by_seed: measures by detector and kind, of each seed.
        wrong: wrongly labelled images of each.
    """
    mean = fmean(len(each.index) for each in wrong)
    note = prose(__file__, "AUROC over models", models=len(by_seed), mutations=mutations, mean=mean, wrong=WRONG)
    return _over(f"{name}: AUROC over models (Table 4)", by_seed, note)


def draws_table(name: str, cells: Cells, model: nn.Module, mutations: int) -> Table:
    """Table 4 of the paper's operator with other mutations of the same samples."""
    by_seed = []
    for seed in range(DRAWS):
        detector = LabelChangeRate(OPERATORS[PAPERS], mutations=mutations, seed=seed)
        by_seed.append(
            {f"LCR, {PAPERS}": cells.scores(f"lcr {PAPERS}{f' draws {seed}' * bool(seed)}", detector, model)}
        )
    note = prose(__file__, "AUROC over draws", draws=DRAWS, mutations=mutations)
    return _over(f"{name}: AUROC over draws of mutations", by_seed, note)


def _over(title: str, by_seed: Sequence[Mapping[str, Mapping[str, Tensor]]], note: str) -> Table:
    rows: list[list[Cell]] = []
    for label in by_seed[0]:
        areas = [kind_areas(measures[label]) for measures in by_seed]
        means = [[*each, fmean(each[:-1]), fmean(each)] for each in areas]
        parts = list(zip(*means, strict=True))
        spread = max(parts[-1]) - min(parts[-1])
        rows.append([label, *(f"{fmean(part):.4f} ± {stdev(part):.4f}" for part in parts), f"{spread:.4f}"])
    head = ["detector", *KINDS, "mean of attacks", "mean", "its highest less its lowest"]
    return Table(title, head, rows, note=note)
