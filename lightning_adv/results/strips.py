"""Rows of images with what a classifier says of each, one column a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure
from torch import Tensor

from lightning_adv.results.figures import QUIET, RIGHT, WRONG, class_name, in_house_style
from lightning_adv.results.result import Picture

__all__ = ["Strip", "StripRow", "image_strip"]


@dataclass(frozen=True)
class StripRow:
    """Images of one kind and what the classifier says of them.

    Args:
        name: what they are.
        images: [n, C, H, W] in [0, 1].
        predictions: [n].
    """

    name: str
    images: Tensor
    predictions: Tensor


@dataclass(frozen=True)
class Strip:
    """A few images as they are, attacked and purified.

    Args:
        name: file stem.
        title: heading.
        labels: [n].
        rows: kinds, from top to bottom.
    """

    name: str
    title: str
    labels: Tensor
    rows: list[StripRow]

    def picture(self, class_names: Sequence[str]) -> Picture:
        """The strip for a report."""
        caption = "Below each image: what the model says of it, ✓ right, ✗ wrong."
        return Picture(self.name, self.title, partial(image_strip, self, class_names), caption, alt=self._told())

    def _told(self) -> str:
        """How many images of each kind are classified correctly, in words."""
        counts = ((row.name, int((row.predictions == self.labels).sum())) for row in self.rows)
        right = ", ".join(f"{name} {count}" for name, count in counts)
        return f"{self.title}: {len(self.labels)} images. Classified correctly: {right}."


@in_house_style
def image_strip(strip: Strip, class_names: Sequence[str]) -> Figure:
    """One row a kind of image, one column a sample, the prediction below each image."""
    columns = len(strip.labels)
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
            axes.set_xlabel(f"{mark} {class_name(said, class_names, 12)}", color=colour, labelpad=2, fontsize=8)
        axes_row[0].set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=8.5)
    for axes, label in zip(panels[0], strip.labels.tolist(), strict=True):
        axes.set_title(class_name(label, class_names, 12), color=QUIET, fontsize=8)
    return figure
