"""nMutant beside the first model: the mutation operator, chosen on images that are not judged, and other seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from torch import Tensor, nn

from experiments.classifiers import CIFAR10_RUN, trained
from experiments.nmutant.cells import Cells, fitted, white_box
from experiments.nmutant.samples import KINDS, SETTINGS, InBfloat16, Samples, make_samples
from experiments.nmutant.tables import WRONG, kind_areas
from experiments.page import prose
from lightning_adv.data import ImageDataModule
from lightning_adv.detectors import (
    AffineMutation,
    GaussianMutation,
    LabelChangeRate,
    Mutation,
    PaperMutation,
    SmoothMutation,
    UniformMutation,
)
from lightning_adv.results.result import Cell, Table

__all__ = ["CANDIDATES", "Choice", "chosen_operator", "seeds_table", "victim", "white_box_measures"]

CANDIDATES: dict[str, dict[str, Mutation]] = {
    "MNIST": {
        "paper, region 10": PaperMutation(10),
        **{f"uniform .{tenths}": UniformMutation(tenths / 10) for tenths in (2, 3, 4, 5)},
        **{f"gaussian .{tenths}": GaussianMutation(tenths / 10) for tenths in (1, 2, 3)},
        **{f"smooth .{std}, cell 2": SmoothMutation(std / 100, cell=2) for std in (15, 20, 25)},
        **{f"smooth .{std}, cell 3": SmoothMutation(std / 100, cell=3) for std in (15, 20, 25)},
        "affine": AffineMutation(),
    },
    "CIFAR10": {
        **{f"paper, region {region}": PaperMutation(region) for region in (1, 10, 100)},
        "uniform .01": UniformMutation(0.01),
        "uniform .03": UniformMutation(0.03),
        "uniform .045": UniformMutation(0.045),
        "gaussian .01": GaussianMutation(0.01),
        "gaussian .03": GaussianMutation(0.03),
        **{f"smooth .{std:02}, cell 3": SmoothMutation(std / 100, cell=3) for std in (3, 6, 10)},
        "affine": AffineMutation(),
    },
}
"""Operators that the detector's is chosen from."""

Choice = tuple[str, Table]
"""Name of an operator, and why it was chosen."""


def victim(name: str, root: str, run: Path, seed: int = 0) -> nn.Module:
    """The classifier of a data set in evaluation mode, trained with a seed if it was not kept."""
    setting = SETTINGS[name]
    folder = CIFAR10_RUN if name == "CIFAR10" and not seed else run / "training"
    model = trained(name, root, folder, setting.training, seed)
    return InBfloat16(model).eval() if setting.bf16 else model


def chosen_operator(
    name: str, model: nn.Module, images: ImageDataModule, folder: Path, count: int, mutations: int
) -> Choice:
    """The candidate with the best AUROC in the mean over all kinds, on validation images and attacks on them.

    Args:
        name: of the data set.
        model: the classifier.
        images: the data; neither its training nor its test images are looked at.
        folder: of the samples and what was measured.
        count: samples of each kind.
        mutations: of each.
    """
    samples = make_samples(model, images, SETTINGS[name], count, folder / "images", split="val")
    cells = Cells(folder / "cells", samples)
    rows: list[list[Cell]] = []
    means: dict[str, float] = {}
    for operator, mutation in CANDIDATES[name].items():
        detector = LabelChangeRate(mutation, mutations=mutations)
        areas = kind_areas(cells.scores(f"lcr {operator} {mutations}", detector, model))
        means[operator] = fmean(areas)
        rows.append([operator, *(f"{area:.3f}" for area in areas), f"{means[operator]:.4f}"])
    best = max(means, key=lambda operator: means[operator])
    counts = ", ".join(f"{len(samples[kind].index)} {kind}" for kind in ("normal", *KINDS))
    note = prose(__file__, "choice of the operator", mutations=mutations, counts=counts, best=best)
    return best, Table(f"{name}: choice of the operator", ["operator", *KINDS, "mean"], rows, note=note)


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
    areas = {label: [kind_areas(measures[label]) for measures in by_seed] for label in by_seed[0]}
    columns = {label: [[*each, fmean(each[:-1]), fmean(each)] for each in seeds] for label, seeds in areas.items()}
    rows: list[list[Cell]] = []
    for label, seeds in columns.items():
        cells = [f"{fmean(part):.4f} ± {stdev(part):.4f}" for part in zip(*seeds, strict=True)]
        rows.append([label, *cells])
        if label != "LCR":
            ahead = [
                sum(ours > theirs for ours, theirs in zip(*both, strict=True))
                for both in zip(zip(*columns["LCR"], strict=True), zip(*seeds, strict=True), strict=True)
            ]
            rows.append([f"LCR ahead of {label}", *(f"{count} of {len(seeds)}" for count in ahead)])
    mean = fmean(len(each.index) for each in wrong)
    note = prose(__file__, "AUROC over models", models=len(by_seed), mutations=mutations, mean=mean, wrong=WRONG)
    head = ["detector", *KINDS, "mean of attacks", "mean"]
    return Table(f"{name}: AUROC over models (Table 4)", head, rows, note=note)
