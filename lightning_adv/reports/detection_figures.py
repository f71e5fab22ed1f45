"""Pictures of how detectors tell adversarial samples from normal ones."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lightning_adv.reports.figures import COLOURS, STYLE

__all__ = ["mu_curves", "roc_curves", "score_histograms"]

STYLES = ("-", "--", ":", "-.")
PANELS_IN_A_ROW = 3


def roc_curves(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """One panel an attack, one line a detector: attack to detector to points (false, true positive rate)."""
    with matplotlib.rc_context(STYLE):
        columns = min(PANELS_IN_A_ROW, len(curves))
        rows = -(-len(curves) // columns)
        figure = Figure(figsize=(2.9 * columns + 0.3, 2.8 * rows + 0.7))
        panels = figure.subplots(rows, columns, squeeze=False).flat
        lines = {}
        for (attack, detectors), panel in zip(curves.items(), panels, strict=False):
            panel.plot([0, 1], [0, 1], color="#9AA5B1", lw=0.8)
            for i, (name, points) in enumerate(detectors.items()):
                look = {"color": COLOURS[i % len(COLOURS)], "ls": STYLES[i % len(STYLES)]}
                (lines[name],) = panel.plot(*zip(*points, strict=True), **look)
            panel.set(title=attack, xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
            panel.set(xlabel="false positive rate", ylabel="true positive rate")
        for panel in list(panels):
            panel.set_axis_off()
        figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=6)
        return figure


def score_histograms(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One panel a detector: shares of its scores on normal (filled) and adversarial samples (lines).

    Args:
        scores: detector to kind of sample to scores; the first kind is the normal one. The axis leaves out the
            outermost percent at either end.
    """
    with matplotlib.rc_context(STYLE):
        columns = min(2, len(scores))
        rows = -(-len(scores) // columns)
        figure = Figure(figsize=(3.9 * columns + 0.3, 2.3 * rows + 0.7))
        panels = figure.subplots(rows, columns, squeeze=False).flat
        drawn = {}
        for (detector, kinds), panel in zip(scores.items(), panels, strict=False):
            every = np.concatenate([np.asarray(values, dtype=float) for values in kinds.values()])
            low, high = np.quantile(every, [0.01, 0.99])
            bins = np.linspace(low, high if high > low else low + 1, 31)
            for i, (kind, values) in enumerate(kinds.items()):
                values = np.clip(np.asarray(values, dtype=float), bins[0], bins[-1])
                weights = np.full(len(values), 1 / max(len(values), 1))
                filled = {"histtype": "stepfilled", "alpha": 0.3} if i == 0 else {"histtype": "step", "lw": 1.6}
                look = {"color": COLOURS[i % len(COLOURS)], "ls": STYLES[i % len(STYLES)] if i else "-"}
                drawn[kind] = panel.hist(values, bins, weights=weights, **filled, **look)[2][0]
            panel.set(title=detector, xlabel="score", ylabel="share of samples")
            panel.grid(visible=False, axis="x")
        for panel in list(panels):
            panel.set_axis_off()
        figure.legend(drawn.values(), drawn.keys(), loc="outside upper left", ncols=6)
        return figure


def mu_curves(
    mus: Sequence[float],
    accuracy: Mapping[str, Sequence[float]],
    mutations: Mapping[str, Sequence[float]],
) -> Figure:
    """Share judged rightly and mean number of mutations over mu, a line a kind of sample (Figure 3 of nMutant)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.2))
        left, right = figure.subplots(1, 2)
        for axes, series, label in ((left, accuracy, "judged rightly"), (right, mutations, "mutations")):
            for i, (kind, values) in enumerate(series.items()):
                look = {"color": COLOURS[i % len(COLOURS)], "ls": STYLES[i % len(STYLES)], "marker": "o"}
                axes.plot(mus, values, label=kind, **look)
            axes.set(xlabel="mu", ylabel=label)
        left.set_ylim(0, 1.02)
        right.set_yscale("log")
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=6)
        return figure
