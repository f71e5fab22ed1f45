"""The pictures of a section on photographs."""

from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_adv.reports.figures import COLOURS, HEIGHT, MARKERS, STYLE, WIDTH

if TYPE_CHECKING:
    from lightning_adv.reports.physical import PhysicalResult

__all__ = ["destruction_rates"]


def destruction_rates(result: "PhysicalResult") -> Figure:
    """Destruction rate with its interval: over eps, one line an attack, or one point an attack with one budget."""
    swept = [name for name in result.attacks if len(result.of(name)) > 1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        for number, name in enumerate(result.attacks):
            rows = [row for row in result.of(name) if row.interval is not None]
            rates = [row.destruction.rate for row in rows]
            spread = [[abs(rate - row.interval[end]) for rate, row in zip(rates, rows, strict=True)] for end in (0, 1)]
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "capsize": 3}
            if not swept:
                axes.errorbar([number] * len(rates), rates, spread, ls="none", **look)
            elif name in swept:
                axes.errorbar([row.eps for row in rows], rates, spread, label=name, **look)
            else:
                axes.axhline(rates[0] if rates else 0, color=look["color"], ls=":", label=f"{name}, any distance")
        if swept:
            axes.set_xlim(left=0)
            axes.set_xlabel("eps in pixel units of [0, 1]")
            axes.legend(loc="best")
        else:
            axes.set_xticks(range(len(result.attacks)), [result.of(name)[0].label for name in result.attacks])
            axes.set_xlim(-0.6, len(result.attacks) - 0.4)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("destruction rate")
        return figure
