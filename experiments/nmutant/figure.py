"""The figure of the nMutant experiment."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lightning_adv.results.detection import STYLES
from lightning_adv.results.figures import COLOURS, in_house_style

__all__ = ["mu_curves"]


@in_house_style
def mu_curves(
    mus: Sequence[float],
    accuracy: Mapping[str, Sequence[float]],
    mutations: Mapping[str, Sequence[float]],
) -> Figure:
    """Share judged rightly and mean number of mutations over mu, a line a kind of sample (Figure 3 of nMutant)."""
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
