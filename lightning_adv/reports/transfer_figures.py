"""Heat maps of what transfers from which source to which target."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_adv.reports.figures import STYLE

__all__ = ["transfer_matrix"]

PANELS_IN_A_ROW = 3


def transfer_matrix(
    matrices: Mapping[str, Sequence[Sequence[float]]], sources: Sequence[str], targets: Sequence[str]
) -> Figure:
    """One panel a matrix: the share of a source's adversarial images (row) that a target (column) gets wrong.

    Args:
        matrices: title to rows of shares in [0, 1].
        sources: names of the rows.
        targets: names of the columns.

    Raises:
        ValueError: a matrix of another shape.
    """
    for title, rows in matrices.items():
        if len(rows) != len(sources) or any(len(row) != len(targets) for row in rows):
            raise ValueError(f"matrix {title!r} is not {len(sources)} x {len(targets)}")
    with matplotlib.rc_context(STYLE):
        columns = min(PANELS_IN_A_ROW, len(matrices))
        bands = -(-len(matrices) // columns)
        size = (columns * (0.62 * len(targets) + 0.9) + 0.8, bands * (0.5 * len(sources) + 1.0) + 0.3)
        figure = Figure(figsize=size)
        panels = list(figure.subplots(bands, columns, squeeze=False).flat)
        for panel, (title, rows) in zip(panels, matrices.items(), strict=False):
            image = panel.imshow(rows, "cividis", vmin=0, vmax=1, aspect="auto")
            for i, row in enumerate(rows):
                for j, share in enumerate(row):
                    colour = "black" if share > 0.55 else "white"
                    panel.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
            panel.set_xticks(range(len(targets)), targets, rotation=35, ha="right")
            panel.set_yticks(range(len(sources)), sources)
            panel.set(title=title)
            panel.tick_params(length=0)
            panel.grid(visible=False)
            panel.spines[:].set_visible(False)
        for panel in panels[len(matrices) :]:
            panel.set_axis_off()
        panels[0].set(ylabel="crafted on")
        scale = figure.colorbar(image, ax=panels, format=PercentFormatter(1.0, decimals=0), pad=0.02)
        scale.set_label("wrong at the target")
        scale.outline.set_visible(False)
        return figure
