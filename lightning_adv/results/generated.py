"""Which generated images a classifier is surest of, class by class."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor

from lightning_adv.results.fooling import fooling_gallery
from lightning_adv.results.result import EvaluationResult, Picture, Table

__all__ = ["GeneratedResult"]


@dataclass(kw_only=True)
class GeneratedResult(EvaluationResult):
    """How sure the classifier is of the images that were made for each class, and of those that were kept.

    Args:
        class_names: of the K classes.
        made: images of each class.
        recognised: [K] of them that the classifier calls their class.
        confidence: [K, kept] probability of its class for each image kept, descending.
        shown: name of an example to one image of each class [K, C, H, W].
        shown_confidence: name of an example to the probability of each image's class [K].
    """

    class_names: list[str]
    made: int
    recognised: Tensor
    confidence: Tensor
    shown: dict[str, Tensor]
    shown_confidence: dict[str, Tensor]

    def scalars(self) -> dict[str, float]:
        """``recognised``, a share of all images; ``confidence``, the mean of those kept, and ``lowest_confidence``."""
        return {
            "recognised": float(self.recognised.sum()) / (self.made * len(self.class_names)),
            "confidence": float(self.confidence.mean()),
            "lowest_confidence": float(self.confidence.min()),
        }

    def summary(self) -> str:
        """How many were kept, in words."""
        (classes, kept), scalars = self.confidence.shape, self.scalars()
        recognised, confidence = (f"{100 * scalars[key]:.2f}%" for key in ("recognised", "confidence"))
        return (
            f"Of {classes * self.made:,} generated images, the classifier calls {recognised} what they were made as; "
            f"the {classes * kept:,} kept have a mean confidence of {confidence}."
        )

    def tables(self) -> list[Table]:
        """One row a class."""
        kept = self.confidence.shape[1]
        rows = [
            [name, self.made, int(self.recognised[k]) / self.made, kept, float(own.mean()), float(own.min())]
            for k, (name, own) in enumerate(zip(self.class_names, self.confidence, strict=True))
        ]
        columns = ["Class", "Generated", "Recognised", "Kept", "Mean confidence", "Lowest"]
        note = "Confidence: probability of the class that an image was made for. The surest of each class are kept."
        return [Table("Generated images", columns, rows, ("Recognised", "Mean confidence", "Lowest"), note)]

    def pictures(self) -> list[Picture]:
        """One image a class of those kept and of those left out."""
        caption = "One image a class; above it the probability that the classifier gives to that class."
        return [Picture("generated_images", "Generated images", self._draw, caption, alt=self.summary())]

    def _draw(self) -> Figure:
        return fooling_gallery(self.shown, self.shown_confidence, self.class_names)

    def as_dict(self) -> dict:
        """The figures of each class; the pixels are in the picture."""
        return {
            "class_names": list(self.class_names),
            "made": self.made,
            "kept": self.confidence.shape[1],
            "recognised": self.recognised.tolist(),
            "mean_confidence": self.confidence.mean(dim=1).tolist(),
            "lowest_confidence": self.confidence.min(dim=1).values.tolist(),
        }
