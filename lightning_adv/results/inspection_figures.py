"""Figures of inspections: the triggers that were found, how far each class is an outlier, and its course."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_adv.inspectors import InspectionReport
from lightning_adv.results.figures import (
    COLOURS,
    HEIGHT,
    INK,
    PALE,
    QUIET,
    RIGHT,
    WIDTH,
    WRONG,
    class_name,
    in_house_style,
    legend,
)

__all__ = ["MOST_CLASSES", "anomaly_bars", "anomaly_course", "trigger_grid"]

COLUMNS, MOST_CLASSES, NAMED_BARS = 10, 20, 25
HIGHLIGHTED = 5


@in_house_style
def trigger_grid(report: InspectionReport, class_names: Sequence[str]) -> Figure:
    """Mask, and pattern seen through it, of the 20 classes with the smallest triggers."""
    order = report.order[:MOST_CLASSES]
    columns, bands = min(COLUMNS, len(order)), math.ceil(len(order) / COLUMNS)
    rows = ["image"] if report.large else ["mask", "mask \N{MULTIPLICATION SIGN}\npattern"]
    figure = Figure(figsize=(0.9 + 1.0 * columns, (0.75 + len(rows)) * bands))
    axes = figure.subplots(len(rows) * bands, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for number, position in enumerate(order):
        trigger, index = report.triggers[position], report.outliers.index[position]
        top, column = len(rows) * (number // COLUMNS), number % COLUMNS
        for place, picture in enumerate([trigger.mask, trigger.mask * trigger.pattern][-len(rows) :]):
            _show(axes[top + place, column], picture)
        name = class_name(trigger.label, class_names)
        known = f", {index:.2f}" if math.isfinite(index) else ""
        value = f"{trigger.norm:.3g}" if report.large else f"{trigger.norm:.1f} px"
        found = f"{value}{known}" if math.isfinite(trigger.norm) else trigger.status
        flagged = trigger.label in (report.flagged or ())
        axes[top, column].set_title(
            f"{name}\n{found}",
            color=WRONG if flagged else INK if trigger.found else QUIET,
            fontsize=7.5,
            weight="bold" if flagged else "normal",
            pad=3,
        )
    for row, text in enumerate(rows * bands):
        axes[row, 0].text(-0.12, 0.5, text, transform=axes[row, 0].transAxes, ha="right", va="center", color=QUIET)
    return figure


@in_house_style
def anomaly_bars(report: InspectionReport, class_names: Sequence[str]) -> Figure:
    """Anomaly index of every class; pale above the median, orange where the paper's rule flags it."""
    index = np.nan_to_num(np.asarray(report.outliers.index))
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    sign = -1 if report.large else 1
    small = [sign * norm <= sign * report.outliers.median for norm in report.norms]
    colours = [
        WRONG if label in (report.flagged or ()) else RIGHT if below else PALE
        for label, below in zip(report.labels, small, strict=True)
    ]
    axes.bar(range(len(index)), index, 0.8, color=colours)
    axes.axhline(report.outliers.threshold, color=QUIET, lw=1, ls="--")
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    names = [class_name(label, class_names) for label in report.labels]
    if len(names) <= NAMED_BARS:
        slanted = max(map(len, names)) > 50 // len(names)
        axes.set_xticks(range(len(names)), names, rotation=90 if slanted else 0)
    else:
        axes.set_xlabel("class")
    axes.set_ylabel("anomaly index")
    return figure


@in_house_style
def anomaly_course(
    courses: Mapping[int, Sequence[tuple[int, float]]], report: InspectionReport, class_names: Sequence[str]
) -> Figure:
    """Anomaly index over epochs: class to points (epoch, index); the five most suspicious of now are named."""
    named = [label for label in (report.labels[i] for i in report.order) if label in courses][:HIGHLIGHTED]
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    for label, points in courses.items():
        if label not in named:
            axes.plot(*zip(*points, strict=True), color=PALE, lw=1, zorder=1)
    lines = {}
    for i, label in enumerate(named):
        (line,) = axes.plot(*zip(*courses[label], strict=True), color=COLOURS[i], marker="o")
        lines[class_name(label, class_names)] = line
    axes.axhline(report.outliers.threshold, color=QUIET, lw=1, ls="--")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel="anomaly index")
    axes.set_ylim(bottom=0)
    legend(figure, lines)
    return figure


def _show(panel: matplotlib.axes.Axes, image: Tensor) -> None:
    pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()
    # A mask or a pattern of a number of channels that no screen shows is drawn by its mean.
    pixels = pixels if pixels.shape[2] == 3 else pixels.mean(axis=2)
    smoothing = "nearest" if max(pixels.shape[:2]) <= 96 else "antialiased"
    panel.imshow(pixels, "gray", vmin=0, vmax=1, interpolation=smoothing)
