"""Galleries of fooling images, and how sure the model became of them."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from lightning_adv.reports.figures import COLOURS, STYLE

__all__ = ["fooling_curves", "fooling_gallery"]

MOST_CLASSES = 20
"""Columns of a gallery: the classes that the model is surest of."""


def fooling_gallery(
    images: Mapping[str, Tensor], confidences: Mapping[str, Tensor], class_names: Sequence[str]
) -> Figure:
    """One row a method, one column a class, the model's confidence above each image.

    Args:
        images: method to images [K, C, H, W] in [0, 1] with 1 or 3 channels.
        confidences: method to the probability of the class an image stands for [K].
        class_names: of the K classes.

    Raises:
        ValueError: a method whose images, confidences and names differ in number.
    """
    for name, shown in images.items():
        if not len(shown) == len(confidences[name]) == len(class_names):
            raise ValueError(f"{name!r} has {len(shown)} images and {len(confidences[name])} confidences for "
                             f"{len(class_names)} classes")  # fmt: skip
    count = len(class_names)
    surest = sum(confidences.values()).argsort(descending=True)[:MOST_CLASSES].sort().values.tolist()
    columns = list(range(count)) if count <= MOST_CLASSES else surest
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.9 * len(columns) + 1.2, 1.15 * len(images) + 0.35))
        panels = figure.subplots(len(images), len(columns), squeeze=False)
        for row, (name, shown) in enumerate(images.items()):
            pixels = shown.float().cpu().permute(0, 2, 3, 1).numpy()
            for column, number in enumerate(columns):
                panel = panels[row, column]
                panel.set_axis_off()
                image = pixels[number]
                panel.imshow(image[..., 0] if image.shape[-1] == 1 else image, "gray", vmin=0, vmax=1)
                panel.images[0].set_interpolation("nearest")
                sure = f"{100 * float(confidences[name][number]):.1f}%"
                panel.set_title(f"{class_names[number][:9]}\n{sure}" if row == 0 else sure, fontsize=7.5, pad=3)
            label = panels[row, 0]
            label.text(-0.15, 0.5, name, transform=label.transAxes, ha="right", va="center", fontsize=8)
        return figure


def fooling_curves(medians: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Median confidence over the classes against the generation (or step), one line a method."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2))
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(medians.items()):
            axes.plot(
                *zip(*points, strict=True), label=name, color=COLOURS[i % len(COLOURS)], ls=("-", "--", ":")[i % 3]
            )
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="generation or step", ylabel="median confidence")
        axes.legend(loc="best")
        return figure
