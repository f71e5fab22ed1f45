"""The pictures of a purification section."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_adv.reports.figures import COLOURS, QUIET, RIGHT, STYLE, WRONG

if TYPE_CHECKING:
    from lightning_adv.reports.purification import PurificationResult, PurificationRow, Strip

__all__ = ["confusions", "image_strip", "threat_bars"]

NAMED_CLASSES = 20
PANELS = 4
NAMES = ("blind", "bpda", "bpda + eot", "adaptive", "black box")


def image_strip(strip: "Strip", class_names: Sequence[str]) -> Figure:
    """One row a kind of image, one column a sample, the prediction below each image."""
    columns = len(strip.labels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.5 + 0.95 * columns, 0.35 + 1.2 * len(strip.rows)))
        panels = figure.subplots(len(strip.rows), columns, squeeze=False)
        for axes_row, row in zip(panels, strip.rows, strict=True):
            pixels = row.images.detach().float().cpu().permute(0, 2, 3, 1).clamp(0, 1).numpy()
            for i, axes in enumerate(axes_row):
                image = pixels[i].squeeze(-1) if pixels.shape[-1] == 1 else pixels[i]
                axes.imshow(image, "gray", vmin=0, vmax=1, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                said, label = int(row.predictions[i]), int(strip.labels[i])
                mark, colour = ("✓", RIGHT) if said == label else ("✗", WRONG)
                axes.set_xlabel(f"{mark} {_name(class_names, said)}", color=colour, labelpad=2, fontsize=8)
            axes_row[0].set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=8.5)
        for axes, label in zip(panels[0], strip.labels.tolist(), strict=True):
            axes.set_title(_name(class_names, label), color=QUIET, fontsize=8)
    return figure


def threat_bars(result: "PurificationResult") -> Figure:
    """Accuracy of every purifier by threat model, one panel an attack."""
    threats, attacks, purifiers = result.threats, result.attacks, result.purifiers
    columns = min(2, len(attacks))
    lines = -(-len(attacks) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns, 0.5 + 2.4 * lines))
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(attacks) :]:
            axes.set_axis_off()
        width = 0.8 / len(threats)
        for axes, attack in zip(panels.flat, attacks, strict=False):
            for i, threat in enumerate(threats):
                rows = [(k, result.find(name, attack, threat)) for k, name in enumerate(purifiers)]
                found = [(k + (i - (len(threats) - 1) / 2) * width, row.accuracy) for k, row in rows if row is not None]
                if not found:
                    continue
                places, heights = zip(*found, strict=True)
                label = threat.replace("_", " + ") if threat == "bpda_eot" else threat.replace("_", " ")
                axes.bar(places, heights, 0.9 * width, color=COLOURS[i % len(COLOURS)], label=label)
            before = result.find("none", attack, "none")
            if before is not None:
                axes.axhline(before.accuracy, color=QUIET, lw=1, ls="--", label="no purifier")
            axes.set_title(attack)
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.grid(visible=False, axis="x")
            axes.set_xticks(range(len(purifiers)), purifiers, rotation=25, ha="right")
            axes.tick_params(axis="x", length=0)
        labelled = {}
        for axes in panels.flat[: len(attacks)]:
            handles, labels = axes.get_legend_handles_labels()
            labelled |= dict(zip(labels, handles, strict=True))
        order = sorted(labelled, key=lambda label: NAMES.index(label) if label in NAMES else -1)
        figure.legend([labelled[each] for each in order], order, loc="outside upper left", ncols=6)
    return figure


def confusions(rows: Sequence["PurificationRow"], class_names: Sequence[str]) -> Figure:
    """Shares of predictions by label, one panel a row."""
    columns = min(PANELS, len(rows))
    lines = -(-len(rows) // columns)
    named = len(class_names) <= NAMED_CLASSES
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.3 * columns, 2.55 * lines))
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, row in zip(panels.flat, rows, strict=False):
            table = np.asarray(row.confusion, dtype=float)
            shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
            axes.set_axis_on()
            image = axes.imshow(shares, "cividis", vmin=0, vmax=1, interpolation="nearest")
            name = "no purifier" if row.purifier == "none" else f"{row.purifier}, {row.threat}"
            axes.set_title(name, fontsize=8.5)
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            ticks = range(len(class_names)) if named else []
            axes.set_xticks(ticks, [class_names[k] for k in ticks], rotation=90, fontsize=6)
            axes.set_yticks(ticks, [class_names[k] for k in ticks], fontsize=6)
            axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=panels, format=PercentFormatter(1.0, decimals=0), pad=0.01, aspect=20 * lines)
        bar.outline.set_visible(False)
    return figure


def _name(class_names: Sequence[str], k: int) -> str:
    name = "NaN" if k < 0 else class_names[k] if k < len(class_names) else str(k)
    return name if len(name) <= 12 else f"{name[:11]}…"
