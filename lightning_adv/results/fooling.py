"""Images that a model is sure of and nobody recognises, method by method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from lightning_adv.fooling import FoolingSet
from lightning_adv.results.figures import COLOURS, HEIGHT, WIDTH, in_house_style, legend
from lightning_adv.results.result import EvaluationResult, KeyFigure, Picture, Table, listed

__all__ = ["FoolingResult", "fooling_curves", "fooling_gallery"]

SURE = 0.99


@dataclass(kw_only=True)
class FoolingResult(EvaluationResult):
    """What each method found for every class.

    Args:
        found: method to its images.
        class_names: of the classes, in the order of the images.
        seconds: method to the time it took.

    Raises:
        ValueError: no method, or one whose images are not as many as the classes.
    """

    found: dict[str, FoolingSet]
    class_names: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.found:
            raise ValueError(f"{self.title}: no method has run")
        for name, each in self.found.items():
            if len(each.images) != len(self.class_names):
                raise ValueError(f"{name} has {len(each.images)} images for {len(self.class_names)} classes")

    def scalars(self) -> dict[str, float]:
        """``<method>/median_confidence`` and ``<method>/fooled_classes``, the share of classes above 99 %."""
        scalars = {}
        for name, each in self.found.items():
            scalars[f"{name}/median_confidence"] = each.median_confidence
            scalars[f"{name}/fooled_classes"] = _sure_of(each) / len(each.images)
        return scalars

    def summary(self) -> str:
        """The method that the model trusts most, in words."""
        best = max(each.median_confidence for each in self.found.values())
        equal = [name for name, each in self.found.items() if each.median_confidence == best]
        reached = f"Unrecognisable images reach a median confidence of {100 * best:.2f}%"
        if len(equal) > 1:
            return f"{reached} ({listed(equal)})."
        share = f"{_sure_of(self.found[equal[0]])} of {len(self.class_names)} classes"
        return f"{reached} ({equal[0]}; above 99% for {share})."

    def key_figures(self) -> list[KeyFigure]:
        """Median confidences."""
        return [KeyFigure(f"{name}/median_confidence", f"Fooling images, {name}: median") for name in self.found]

    def tables(self) -> list[Table]:
        """One row a method."""
        rows = [
            [name, each.median_confidence, float(each.confidences.min()), _sure_of(each), each.medians[-1][0],
             _first_sure(each), self.seconds.get(name)]
            for name, each in self.found.items()
        ]  # fmt: skip
        columns = ["Method", "Median confidence", "Lowest", "Classes above 99%", "Generations", "Median above 99% at"]
        note = "Confidence: probability of the class that an image was made for. Generations are steps of an ascent."
        return [Table("Fooling images", [*columns, "Seconds"], rows, ("Median confidence", "Lowest"), note)]

    def pictures(self) -> list[Picture]:
        """The gallery and the medians on the way."""
        caption = "One image a class; above it the probability that the model gives to that class."
        return [
            Picture("fooling_gallery", "Fooling images", self._draw_gallery, caption, alt=self.summary()),
            Picture("fooling_curves", "Median confidence", self._draw_curves, "Over the classes."),
        ]

    def _draw_gallery(self) -> "Figure":
        images = {name: each.images.cpu() for name, each in self.found.items()}
        return fooling_gallery(images, {n: e.confidences.cpu() for n, e in self.found.items()}, self.class_names)

    def _draw_curves(self) -> "Figure":
        return fooling_curves({name: each.medians for name, each in self.found.items()})

    def as_dict(self) -> dict:
        """Confidences and medians; the pixels are in the picture."""
        return {
            "class_names": list(self.class_names),
            "seconds": dict(self.seconds),
            "found": {
                name: {
                    "classes": each.classes.tolist(),
                    "confidences": each.confidences.tolist(),
                    "medians": [list(point) for point in each.medians],
                }
                for name, each in self.found.items()
            },
        }


def _sure_of(found: FoolingSet) -> int:
    return int((found.confidences > SURE).sum())


def _first_sure(found: FoolingSet) -> int | None:
    return next((number for number, median in found.medians if median > SURE), None)


MOST_CLASSES = 20
"""Columns of a gallery: the classes that the model is surest of."""


@in_house_style
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


@in_house_style
def fooling_curves(medians: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Median confidence over the classes against the generation (or step), one line a method."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    for i, points in enumerate(medians.values()):
        axes.plot(*zip(*points, strict=True), color=COLOURS[i % len(COLOURS)], ls=("-", "--", ":")[i % 3])
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="generation or step", ylabel="median confidence")
    legend(figure, dict(zip(medians, axes.lines, strict=True)))
    return figure
