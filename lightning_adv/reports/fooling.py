"""Images that a model is sure of and nobody recognises, method by method."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_adv.fooling import FoolingSet
from lightning_adv.reports.results import EvaluationResult, KeyFigure, Picture, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FoolingResult"]

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
        best = max(self.found, key=lambda name: self.found[name].median_confidence)
        share = f"{_sure_of(self.found[best])} of {len(self.class_names)} classes"
        return (
            f"Unrecognisable images reach a median confidence of {100 * self.found[best].median_confidence:.2f}% "
            f"({best}; above 99% for {share})."
        )

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
            Picture("fooling_gallery", "Fooling images", self._draw_gallery, caption),
            Picture("fooling_curves", "Median confidence", self._draw_curves, "Over the classes."),
        ]

    def _draw_gallery(self) -> "Figure":
        from lightning_adv.reports.fooling_figures import fooling_gallery

        images = {name: each.images.cpu() for name, each in self.found.items()}
        return fooling_gallery(images, {n: e.confidences.cpu() for n, e in self.found.items()}, self.class_names)

    def _draw_curves(self) -> "Figure":
        from lightning_adv.reports.fooling_figures import fooling_curves

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
