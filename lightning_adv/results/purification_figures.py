"""The pictures of a purification section."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_adv.results.figures import COLOURS, QUIET, WIDTH, in_house_style, legend

__all__ = ["confusions", "threat_bars"]

NAMED_CLASSES = 20
PANELS = 2


@in_house_style
def threat_bars(
    accuracies: Mapping[str, Mapping[str, Mapping[str, float]]], before: Mapping[str, float], purifiers: Sequence[str]
) -> Figure:
    """Accuracy of every purifier by threat model, one panel an attack.

    Args:
        accuracies: attack to threat model, in the order of bars, to purifier to accuracy; those not measured are left
            out.
        before: attack to the accuracy without a purifier.
        purifiers: names, from left to right.
    """
    figure = Figure(figsize=(WIDTH, 0.5 + 2.4 * len(accuracies)))
    panels = figure.subplots(len(accuracies), squeeze=False)
    drawn = {}
    for axes, (attack, threats) in zip(panels.flat, accuracies.items(), strict=True):
        if attack in before:
            drawn["no purifier"] = axes.axhline(before[attack], color=QUIET, lw=1, ls="--")
        width = 0.8 / len(threats)
        for i, (threat, heights) in enumerate(threats.items()):
            places = [purifiers.index(name) + (i - (len(threats) - 1) / 2) * width for name in heights]
            if places:
                label = threat.replace("_", " + ") if threat == "bpda_eot" else threat.replace("_", " ")
                drawn[label] = axes.bar(places, list(heights.values()), 0.9 * width, color=COLOURS[i % len(COLOURS)])
        axes.set_title(attack)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(visible=False, axis="x")
        axes.set_xticks(range(len(purifiers)), purifiers, rotation=25, ha="right")
        axes.tick_params(axis="x", length=0)
    legend(figure, drawn)
    return figure


@in_house_style
def confusions(tables: Mapping[str, Sequence[Sequence[int]]], class_names: Sequence[str]) -> Figure:
    """Shares of predictions by label, one panel a table: title to counts [K, K] of label by prediction.

    Classes without an image have no row, and their columns are one, "other".
    """
    columns = min(PANELS, len(tables))
    lines = -(-len(tables) // columns)
    labels = np.sum([np.asarray(counts).sum(axis=1) for counts in tables.values()], axis=0).nonzero()[0]
    rows = [class_names[k] for k in labels]
    others = len(labels) < len(class_names)
    named = len(rows) <= NAMED_CLASSES
    figure = Figure(figsize=(WIDTH, 2.4 * lines))
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, (title, counts) in zip(panels.flat, tables.items(), strict=False):
        table = np.asarray(counts, dtype=float)[labels]
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        elsewhere = np.delete(shares, labels, axis=1).sum(axis=1, keepdims=True)
        shares = np.hstack([shares[:, labels], elsewhere[:, : int(others)]])
        axes.set_axis_on()
        image = axes.imshow(shares, "cividis", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=8.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        columns_named = [*rows, *["other"] * others] if named else []
        axes.set_xticks(range(len(columns_named)), columns_named, rotation=90, fontsize=6)
        axes.set_yticks(range(len(rows)) if named else [], rows if named else [], fontsize=6)
        axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=panels, format=PercentFormatter(1.0, decimals=0), pad=0.01, aspect=20 * lines)
    bar.outline.set_visible(False)
    return figure
