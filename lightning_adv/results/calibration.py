"""Whether a classifier is right as often as it is sure, without an attack and under attacks (Guo et al., 2017)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_adv.results.figures import INK, QUIET, RIGHT, WIDTH, WRONG, in_house_style, legend
from lightning_adv.results.result import EvaluationResult, KeyFigure, Picture, Table
from lightning_adv.results.shares import percent

__all__ = ["CLEAN", "CalibrationResult", "CalibrationRow", "reliability_diagrams"]

CLEAN = "clean"
PANELS_IN_A_ROW = 2
OVERCONFIDENT = 0.1
"""A mean confidence that is so much above the accuracy is worth a warning."""


@dataclass(frozen=True)
class CalibrationRow:
    """The images of one kind, in equal bins of confidence over [0, 1].

    Args:
        kind: ``"clean"`` or the name of an attack.
        description: every setting of the attack in one line.
        counts: images of each bin [B].
        correct: of them classified correctly [B].
        confidence: sum of the probabilities of their predictions [B].
    """

    kind: str
    description: str
    counts: list[int]
    correct: list[int]
    confidence: list[float]

    @property
    def samples(self) -> int:
        """Images with a confidence."""
        return sum(self.counts)

    @property
    def gaps(self) -> list[float]:
        """How far mean confidence and accuracy of each bin that holds an image are apart, in the order of bins."""
        bins = zip(self.counts, self.correct, self.confidence, strict=True)
        return [abs(right - sure) / count for count, right, sure in bins if count]

    def scalars(self) -> dict[str, float]:
        """``ece`` and ``mce``, expected and largest gap; ``overconfidence``, by which confidence exceeds accuracy."""
        if not self.samples:
            return {}
        held = [count for count in self.counts if count]
        expected = sum(count * gap for count, gap in zip(held, self.gaps, strict=True)) / self.samples
        excess = (math.fsum(self.confidence) - sum(self.correct)) / self.samples
        return {"ece": expected, "mce": max(self.gaps), "overconfidence": excess}


@dataclass(kw_only=True)
class CalibrationResult(EvaluationResult):
    """Calibration on clean images and under each attack.

    Args:
        rows: the clean images first.

    Raises:
        ValueError: no row, or counts that contradict each other.
    """

    rows: list[CalibrationRow]

    def __post_init__(self) -> None:
        if not self.rows or self.rows[0].kind != CLEAN:
            raise ValueError(f"{self.title}: the clean images come first")
        for row in self.rows:
            if any(right > count for count, right in zip(row.counts, row.correct, strict=True)):
                raise ValueError(f"{row.kind}: more correct images than images in {row.counts}, {row.correct}")

    def scalars(self) -> dict[str, float]:
        """``<kind>/ece``, ``<kind>/mce`` and ``<kind>/overconfidence``."""
        return {f"{row.kind}/{name}": value for row in self.rows for name, value in row.scalars().items()}

    def summary(self) -> str:
        """The expected calibration error without an attack, and where it is largest, in words."""
        errors = {row.kind: row.scalars()["ece"] for row in self.rows if row.samples}
        if CLEAN not in errors:
            return ""
        worst = max(errors, key=errors.get)
        clean = f"The model's confidence is {percent(errors[CLEAN])} away from its accuracy on clean images"
        return f"{clean}." if worst == CLEAN else f"{clean}, and {percent(errors[worst])} under {worst}."

    def key_figures(self) -> list[KeyFigure]:
        """The expected calibration error of every kind of image."""
        return [
            KeyFigure(f"{row.kind}/ece", f"Expected calibration error, {row.kind}", row.description)
            for row in self.rows
            if row.samples
        ]

    def tables(self) -> list[Table]:
        """One row a kind of image."""
        columns = ["Images", "Count", "Accuracy", "Mean confidence", "Expected error", "Largest error"]
        rows = []
        for row in (row for row in self.rows if row.samples):
            found = row.scalars()
            accuracy = sum(row.correct) / row.samples
            rows.append(
                [row.kind, row.samples, accuracy, accuracy + found["overconfidence"], found["ece"], found["mce"]]
            )
        note = (
            f"Errors are gaps between mean confidence and accuracy in {len(self.rows[0].counts)} equal bins of "
            "confidence: their mean, weighted by images, and the largest one."
        )
        return [Table("Calibration", columns, rows, tuple(columns[2:]), note)]

    def pictures(self) -> list[Picture]:
        """A reliability diagram for every kind of image."""
        shown = {row.kind: row for row in self.rows if row.samples}
        caption = (
            "Accuracy by confidence; hatched: how far the mean confidence of a bin is away. On the diagonal they agree."
        )
        return [Picture("reliability", "Reliability diagrams", partial(reliability_diagrams, shown), caption)]

    def as_dict(self) -> dict:
        """Rows with their errors."""
        return {"rows": [asdict(row) | row.scalars() for row in self.rows]}


@in_house_style
def reliability_diagrams(rows: Mapping[str, CalibrationRow]) -> Figure:
    """One panel a kind of image: accuracy of every bin beside its mean confidence, over the shares of images."""
    columns = max(1, min(PANELS_IN_A_ROW, len(rows)))
    lines = max(1, -(-len(rows) // columns))
    figure = Figure(figsize=(WIDTH, 2.5 * lines + 0.5))
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, (kind, row) in zip(panels, rows.items(), strict=False):
        width = 1 / len(row.counts)
        bins = zip(row.counts, row.correct, row.confidence, strict=True)
        held = [((i + 0.5) * width, n, right / n, sure / n) for i, (n, right, sure) in enumerate(bins) if n]
        places, counts, accuracies, confidences = zip(*held, strict=True)
        drawn = {"accuracy": panel.bar(places, accuracies, 0.8 * width, color=RIGHT, alpha=0.75)}
        gaps = [sure - right for right, sure in zip(accuracies, confidences, strict=True)]
        look = {"bottom": accuracies, "fill": False, "edgecolor": WRONG, "hatch": "////", "lw": 0.6}
        drawn["gap to confidence"] = panel.bar(places, gaps, 0.8 * width, **look)
        panel.plot([0, 1], [0, 1], color=QUIET, lw=1, ls="--")
        look = {"color": INK, "marker": "o", "markersize": 3, "lw": 1}
        (drawn["share of images"],) = panel.plot(places, [n / row.samples for n in counts], **look)
        panel.set(title=kind, xlim=(0, 1), ylim=(0, 1.01), aspect="equal", xlabel="confidence", ylabel="accuracy")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    if rows:
        legend(figure, drawn)
    return figure
