"""What attacks leave of a classifier's accuracy: counts, never averages, so that shards add up."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from lightning_adv.attacks.budget import as_text
from lightning_adv.results.attack_row import AttackRow
from lightning_adv.results.examples import Examples, magnification
from lightning_adv.results.result import Answer, Cell, EvaluationResult, KeyFigure, Picture, Table, listed
from lightning_adv.results.shares import percent, percent_interval, wilson_interval, without_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RobustnessResult"]

STAGES = {"val": "validation", "test": "test", "fit": "training"}
CONFIDENCE_BINS = 20


@dataclass(kw_only=True)
class RobustnessResult(EvaluationResult):
    """Clean and robust accuracy of a classifier under named attacks and under the worst of them for every image.

    Args:
        samples: images evaluated.
        clean_correct: images classified correctly without an attack.
        class_names: names of the K classes.
        per_class_samples, per_class_clean_correct: the two counts by class [K].
        attacks: one row an attack.
        worst_case_correct: images classified correctly without an attack and under every one.
        worst_case_per_class: the same by class [K].
        curves: name of the attack to points (eps, robust accuracy); clean accuracy is added at eps 0.
        curve_samples: name of the attack to the images behind every point of its curve, where not ``samples``.
        examples: name of the attack to a few attacked images.
        clean_confidences: probability of the predicted class for every image [samples]; may be left empty.
        adversarial_confidences: the same under attacks, by name.
        draws: of a randomised model that every verdict is the mean of; 1 for a model that always answers the same.

    Raises:
        ValueError: no image, or counts that contradict each other.
    """

    samples: int
    clean_correct: int
    class_names: list[str]
    per_class_samples: list[int]
    per_class_clean_correct: list[int]
    attacks: list[AttackRow]
    worst_case_correct: int
    worst_case_per_class: list[int]
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    curve_samples: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Examples] = field(default_factory=dict)
    clean_confidences: Sequence[float] = ()
    adversarial_confidences: dict[str, Sequence[float]] = field(default_factory=dict)
    draws: int = 1

    question = "How robust is it?"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"{self.title}: no image was evaluated")
        totals = {
            "samples": (self.samples, self.per_class_samples),
            "clean_correct": (self.clean_correct, self.per_class_clean_correct),
            "worst_case_correct": (self.worst_case_correct, self.worst_case_per_class),
        } | {f"attack {row.name}": (row.robust_correct, row.per_class_correct) for row in self.attacks}
        for name, (total, parts) in totals.items():
            if len(parts) != len(self.class_names) or sum(parts) != total:
                raise ValueError(f"{name}: {total} is not the sum over {len(self.class_names)} classes of {parts}")
            if any(part > held for part, held in zip(parts, self.per_class_samples, strict=True)):
                raise ValueError(f"{name}: a class has more correct images than images")
        if unknown := self.curves.keys() - {row.name for row in self.attacks}:
            raise ValueError(f"curves of {sorted(unknown)} belong to no attack")
        if any(row.samples != self.samples for row in self.attacks):
            raise ValueError(f"attacks saw {[row.samples for row in self.attacks]} images, not {self.samples}")
        if self.worst_case_correct > min(
            self.clean_correct, *(row.robust_correct for row in self.budgeted), self.samples
        ):
            raise ValueError("the worst case has more correct images than the clean ones or an attack alone")

    @property
    def budgeted(self) -> list[AttackRow]:
        """Attacks with a budget, those that the worst case is taken over."""
        return [row for row in self.attacks if not row.minimal_norm]

    @property
    def clean_accuracy(self) -> float:
        """Share of the images classified correctly without an attack."""
        return self.clean_correct / self.samples

    @property
    def worst_case_accuracy(self) -> float:
        """Share of the images classified correctly without an attack and under every one."""
        return self.worst_case_correct / self.samples

    def scalars(self) -> dict[str, float]:
        """``clean_accuracy``, ``worst_case/robust_accuracy``, ``<attack>/robust_accuracy`` and their companions."""
        scalars = {"clean_accuracy": self.clean_accuracy}
        if self.budgeted:
            scalars["worst_case/robust_accuracy"] = self.worst_case_accuracy
        for row in self.attacks:
            scalars |= {f"{row.name}/{name}": value for name, value in row.scalars().items()}
        return scalars

    def scope(self) -> str:
        """Images and budgets of the attacks."""
        budgets = dict.fromkeys(f"{row.norm} {as_text(row.eps)}" for row in self.budgeted if row.eps is not None)
        return ", ".join([self._images(), *(["attacks within " + " and ".join(budgets)] if budgets else [])])

    def _images(self) -> str:
        return f"{self.samples:,} {STAGES.get(self.stage, self.stage)} image{'s' * (self.samples > 1)}"

    def summary(self) -> str:
        """Clean accuracy, the strongest single attack, the worst case and how near mistakes lie, in words."""
        near = [f"{row.norm} {row.median_distance:.3g} ({row.name})" for row in self.attacks if row.median_distance]
        within = f" Half of the images that it gets right have a mistake within {listed(near)}." if near else ""
        return f"{self._accuracies()}{within}"

    def _accuracies(self) -> str:
        clean = f"Of {self._images()}, the model classifies {percent(self.clean_accuracy)} correctly"
        if not self.budgeted:
            return f"{clean}."
        fewest = min(row.robust_correct for row in self.budgeted)
        strongest = [row for row in self.budgeted if row.robust_correct == fewest]
        names = listed([row.name for row in strongest])
        left = f"{clean}; {percent(strongest[0].robust_accuracy)} stay correct under {names}"
        if len(self.budgeted) == 1:
            return f"{left} ({strongest[0].description})."
        worst = f"{percent(self.worst_case_accuracy)} under every one of the {len(self.budgeted)} attacks"
        if len(strongest) > 1:
            return f"{left} alike, and {worst}."
        return f"{left}, the strongest single attack ({strongest[0].description}), and {worst}."

    def answer(self) -> Answer:
        """What is left under every attack, with its interval, and whether the figures are in doubt."""
        doubt = " Read the warnings below first: the figures may be too high." if self.warnings else ""
        left, interval = percent(self.worst_case_accuracy), wilson_interval(self.worst_case_correct, self.samples)
        short = left if self.budgeted else percent(self.clean_accuracy)
        said = f" The 95% interval of {left} is {percent_interval(interval)}." if self.budgeted else ""
        return Answer(self.question, short, f"{self.summary()}{said}{doubt}")

    def key_figures(self) -> list[KeyFigure]:
        """Clean and worst-case accuracy as cards, then every attack."""
        clean = wilson_interval(self.clean_correct, self.samples)
        figures = [KeyFigure("clean_accuracy", "Clean accuracy", "no attack", clean, card=True)]
        if self.budgeted:
            basis = "; ".join(row.description for row in self.budgeted)
            worst = wilson_interval(self.worst_case_correct, self.samples)
            name = "worst_case/robust_accuracy"
            figures.append(KeyFigure(name, "Worst-case robust accuracy", basis, worst, card=True))
        return figures + [
            KeyFigure(f"{row.name}/robust_accuracy", f"Robust accuracy, {row.name}", row.description, row.interval)
            for row in self.budgeted
        ]

    def tables(self) -> list[Table]:
        """Accuracy under attacks, signs of gradient masking where measured, accuracy by class."""
        masking = [self._masking_table()] if any(self._masking_measured(row) for row in self.attacks) else []
        stages = [self._stage_table(row) for row in self.attacks if row.stages]
        return [self._attack_table(), *stages, *masking, *self._curve_tables(), self._class_table()]

    def _curve_tables(self) -> list[Table]:
        images = self._curve_samples()
        rows: list[list[Cell]] = []
        for norm, curves in self._curves_by_norm().items():
            for name, points in curves.items():
                for eps, share in sorted(points):
                    count = images[name]
                    interval = percent_interval(wilson_interval(round(share * count), count))
                    rows.append([name, norm, eps, count, share, interval])
        columns = ["Attack", "Norm", "eps", "Images", "Accuracy", "95% interval"]
        note = "Images: those behind every point of a curve. Wilson intervals."
        return [Table("Accuracy over eps", columns, rows, percent=("Accuracy",), note=note)] if rows else []

    def _stage_table(self, row: AttackRow) -> Table:
        return Table(
            f"Attack by attack: {row.name}",
            ["Attack", "Images attacked", "Images broken", "Seconds"],
            [[stage.name, stage.attacked, stage.broken, stage.seconds] for stage in row.stages],
            note="Each attack gets the images that survived those before it. Seconds are added up over ranks.",
        )

    def _attack_table(self) -> Table:
        clean = [self.clean_accuracy, percent_interval(wilson_interval(self.clean_correct, self.samples))]
        rows: list[list[Cell]] = [["none", "clean images", *clean, None, None, None, None, self._clean_confidence()]]
        minimal = any(row.minimal_norm for row in self.attacks)
        for row in self.attacks:
            sizes = [row.mean_linf, row.mean_l2, row.mean_l1]
            accuracy = [row.robust_accuracy, percent_interval(row.interval), row.success_rate]
            rows.append([row.name, row.description, *accuracy, *sizes, row.adversarial_confidence])
        if len(self.budgeted) > 1:
            worst = percent_interval(wilson_interval(self.worst_case_correct, self.samples))
            rows.append(["worst case", "correct under all", self.worst_case_accuracy, worst, *[None] * 5])
        names = ["Attack", "Settings", "Accuracy", "95% interval", "Success rate"]
        return Table(
            "Accuracy under attack",
            [*names, "mean Linf", "mean L2", "mean L1", "Confidence"],
            rows,
            percent=("Accuracy", "Success rate", "Confidence"),
            note=f"{self.samples:,} images; Wilson intervals. Success rate: share of the initially correct images that "
            "the attack turned. Norms: means over successful perturbations, pixels in [0, 1]. "
            "Confidence: mean probability of the predicted class."
            + (" Attacks without an eps go as far as they need: see their curves." if minimal else "")
            + (f" The model is randomised: its class is the mean of {self.draws} draws." if self.draws > 1 else ""),
        )

    def _clean_confidence(self) -> float | None:
        return self.attacks[0].clean_confidence if self.attacks else None

    def _masking_measured(self, row: AttackRow) -> bool:
        return row.zero_gradient_share is not None or row.restart_gain is not None

    def _masking_table(self) -> Table:
        return Table(
            "Signs of gradient masking",
            ["Attack", "Zero gradients", "Gain of restarts"],
            [
                [row.name, row.zero_gradient_share, row.restart_gain]
                for row in self.attacks
                if self._masking_measured(row)
            ],
            percent=("Zero gradients", "Gain of restarts"),
            note="Zero gradients: share of images whose first input gradient was zero. Gain of restarts: robust "
            "accuracy that restarts after the first took away. Large values: gradient attacks overstate robustness.",
        )

    def _class_accuracies(self) -> dict[str, list[float | None]]:
        counts = {"clean": self.per_class_clean_correct} | {row.name: row.per_class_correct for row in self.attacks}
        if len(self.budgeted) > 1:
            counts["worst case"] = self.worst_case_per_class
        held = self.per_class_samples
        return {name: [c / n if n else None for c, n in zip(k, held, strict=True)] for name, k in counts.items()}

    def _class_table(self) -> Table:
        accuracies = self._class_accuracies()
        rows = zip(self.class_names, self.per_class_samples, *accuracies.values(), strict=True)
        return Table(
            "Accuracy by class",
            ["Class", "Images", *accuracies],
            [list(row) for row in rows if row[1]],
            percent=tuple(accuracies),
            note=without_images(self.per_class_samples),
        )

    def pictures(self) -> list[Picture]:
        """Attacked images, accuracy over eps, accuracy by class, confidence under the strongest attack."""
        # matplotlib takes half a second to import, which a run without a report need not pay.
        from lightning_adv.results import figures

        shown = sorted((row for row in self.attacks if row.name in self.examples), key=_weakness)
        pictures = [
            self._grid(figures.adversarial_grid, row, fold=len(shown) > 2 and row is not shown[0]) for row in shown
        ]
        for norm, curves in self._curves_by_norm().items():
            draw = partial(figures.accuracy_curve, curves, norm, self._curve_samples())
            caption = "Shaded: 95% intervals. At a large enough eps every model must fall to zero."
            pictures.append(Picture(f"accuracy_curve_{norm.lower()}", f"Accuracy over {norm} eps", draw, caption))
        draw = partial(figures.class_shares, self.class_names, self._class_accuracies())
        pictures.append(Picture("class_accuracy", "Accuracy by class", draw))
        for row in sorted(self.attacks, key=_weakness):
            if len(self.clean_confidences) and row.name in self.adversarial_confidences:
                confidences = (self.clean_confidences, self.adversarial_confidences[row.name])
                draw = partial(figures.confidence_histogram, *confidences)
                pictures.append(Picture("confidence", f"Confidence under {row.name}", draw))
                break
        return pictures

    def _grid(self, draw: Callable[..., "Figure"], row: AttackRow, fold: bool) -> Picture:
        shown = self.examples[row.name]
        grid = partial(
            draw,
            shown.clean,
            shown.adversarial,
            shown.labels,
            shown.clean_predictions,
            shown.adversarial_predictions,
            class_names=self.class_names,
            clean_confidences=shown.clean_confidences,
            adversarial_confidences=shown.adversarial_confidences,
        )
        factor = magnification(shown.adversarial - shown.clean)
        caption = (
            f"{row.description}. Clean image, image under attack, difference times {factor:g}. "
            "Heading: label; below it the prediction and its confidence, ✓ right, ✗ wrong."
        )
        tiles = partial(shown.tiles, self.class_names)
        return Picture(f"{row.name}_examples", f"Images under {row.name}", grid, caption, tiles, folded=fold)

    def _curves_by_norm(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        norms = {row.name: row.norm for row in self.attacks}
        images = self._curve_samples()
        grouped: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for name, points in self.curves.items():
            startless = images[name] == self.samples and all(eps > 0 for eps, _ in points)
            start = [(0.0, self.clean_accuracy)] if startless else []
            grouped.setdefault(norms[name], {})[name] = [*start, *points]
        return grouped

    def _curve_samples(self) -> dict[str, int]:
        return {name: self.curve_samples.get(name, self.samples) for name in self.curves}

    def as_dict(self) -> dict:
        """Counts, rows, curves, what was said of the examples, and histograms of the confidences."""
        return {
            "samples": self.samples,
            "draws": self.draws,
            "clean_correct": self.clean_correct,
            "clean_interval": list(wilson_interval(self.clean_correct, self.samples)),
            "class_names": list(self.class_names),
            "per_class_samples": list(self.per_class_samples),
            "per_class_clean_correct": list(self.per_class_clean_correct),
            "attacks": [
                asdict(row) | {"robust_accuracy": row.robust_accuracy, "interval": list(row.interval)}
                for row in self.attacks
            ],
            "worst_case_correct": self.worst_case_correct,
            "worst_case_interval": list(wilson_interval(self.worst_case_correct, self.samples)),
            "worst_case_per_class": list(self.worst_case_per_class),
            "curves": {name: [list(point) for point in points] for name, points in self.curves.items()},
            "curve_samples": self._curve_samples(),
            "examples": {name: examples.as_dict() for name, examples in self.examples.items()},
            "clean_confidence_histogram": _histogram(self.clean_confidences),
            "adversarial_confidence_histograms": {n: _histogram(c) for n, c in self.adversarial_confidences.items()},
        }


def _weakness(row: AttackRow) -> tuple[bool, int]:
    """Orders attacks, the one that leaves the fewest images first."""
    return row.minimal_norm, row.robust_correct


def _histogram(confidences: Sequence[float]) -> list[int]:
    """Counts in 20 equal bins over [0, 1], the last one closed; NaN, of images without a class, is in none."""
    counts = [0] * CONFIDENCE_BINS
    for confidence in confidences:
        if confidence == confidence:
            counts[min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1
    return counts
