"""Pictures of an inspection: triggers, anomaly indices, their course over epochs."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_adv.inspectors import InspectionReport
from lightning_adv.reports.figures import COLOURS, HEIGHT, QUIET, RIGHT, STYLE, WIDTH, WRONG

__all__ = ["anomaly_bars", "anomaly_course", "trigger_grid"]

COLUMNS, MOST_CLASSES, NAMED_BARS = 10, 20, 50
HIGHLIGHTED = 5


def trigger_grid(report: InspectionReport, class_names: Sequence[str]) -> Figure:
    """Mask, and pattern seen through it, of the 20 classes with the smallest triggers."""
    order = sorted(range(len(report.triggers)), key=lambda i: (not report.triggers[i].found, report.triggers[i].norm))
    order = order[:MOST_CLASSES]
    columns, bands = min(COLUMNS, len(order)), math.ceil(len(order) / COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.9 + 1.0 * columns, 2.75 * bands))
        axes = figure.subplots(2 * bands, columns, squeeze=False)
        for panel in axes.flat:
            panel.set_axis_off()
        for number, position in enumerate(order):
            trigger, index = report.triggers[position], report.outliers.index[position]
            top, column = 2 * (number // COLUMNS), number % COLUMNS
            _show(axes[top, column], trigger.mask)
            _show(axes[top + 1, column], trigger.mask * trigger.pattern)
            name = _name(trigger.label, class_names)
            known = f", {index:.2f}" if math.isfinite(index) else ""
            found = f"{trigger.norm:.1f} px{known}" if math.isfinite(trigger.norm) else trigger.status
            flagged = trigger.label in (report.flagged or ())
            axes[top, column].set_title(
                f"{name}\n{found}",
                color=WRONG if flagged else STYLE["text.color"] if trigger.found else QUIET,
                fontsize=7.5,
                weight="bold" if flagged else "normal",
                pad=3,
            )
        for row, text in enumerate(["mask", "mask \N{MULTIPLICATION SIGN}\npattern"] * bands):
            axes[row, 0].text(-0.12, 0.5, text, transform=axes[row, 0].transAxes, ha="right", va="center", color=QUIET)
    return figure


def anomaly_bars(report: InspectionReport, class_names: Sequence[str]) -> Figure:
    """Anomaly index of every class; pale above the median, orange where the paper's rule flags it."""
    index = np.nan_to_num(np.asarray(report.outliers.index))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(WIDTH, min(9.6, 0.2 * len(index))), HEIGHT))
        axes = figure.add_subplot()
        small = [norm <= report.outliers.median for norm in report.norms]
        colours = [
            WRONG if label in (report.flagged or ()) else RIGHT if below else "#C9D3DC"
            for label, below in zip(report.labels, small, strict=True)
        ]
        axes.bar(range(len(index)), index, 0.8, color=colours)
        axes.axhline(report.outliers.threshold, color=QUIET, lw=1, ls="--")
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", length=0)
        names = [_name(label, class_names) for label in report.labels]
        if len(names) <= NAMED_BARS:
            slanted = max(map(len, names)) > 84 // len(names)
            axes.set_xticks(
                range(len(names)), names, rotation=90 if slanted else 0, fontsize=7 if len(names) > 20 else 8.5
            )
        else:
            axes.set_xlabel("class")
        axes.set_ylabel("anomaly index")
    return figure


def anomaly_course(
    courses: Mapping[int, Sequence[tuple[int, float]]], report: InspectionReport, class_names: Sequence[str]
) -> Figure:
    """Anomaly index over epochs: class to points (epoch, index); the five smallest triggers of now are named."""
    small = sorted((trigger for trigger in report.triggers if trigger.label in courses), key=lambda each: each.norm)
    named = [trigger.label for trigger in small[:HIGHLIGHTED]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        for label, points in courses.items():
            if label not in named:
                axes.plot(*zip(*points, strict=True), color="#C9D3DC", lw=1, zorder=1)
        for i, label in enumerate(named):
            axes.plot(*zip(*courses[label], strict=True), color=COLOURS[i], marker="o", label=_name(label, class_names))
        axes.axhline(report.outliers.threshold, color=QUIET, lw=1, ls="--")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel="anomaly index")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=HIGHLIGHTED)
    return figure


def _show(panel: matplotlib.axes.Axes, image: Tensor) -> None:
    pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()
    # A mask or a pattern of a number of channels that no screen shows is drawn by its mean.
    pixels = pixels if pixels.shape[2] == 3 else pixels.mean(axis=2)
    smoothing = "nearest" if max(pixels.shape[:2]) <= 96 else "antialiased"
    panel.imshow(pixels, "gray", vmin=0, vmax=1, interpolation=smoothing)


def _name(label: int, class_names: Sequence[str], longest: int = 13) -> str:
    name = " ".join(class_names[label].split()) if label < len(class_names) else str(label)
    return (name if len(name) <= longest else name[: longest - 1] + "…").replace("$", r"\$")
