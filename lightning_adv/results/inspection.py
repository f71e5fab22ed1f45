"""What inspections say of a model: a verdict for each inspector, and a trigger for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite

from lightning_adv.inspectors import InspectionReport, SecondLook
from lightning_adv.results.inspection_figures import MOST_CLASSES, anomaly_bars, anomaly_course, trigger_grid
from lightning_adv.results.result import Answer, Cell, EvaluationResult, Picture, Table

__all__ = ["InspectionResult"]

CANNOT_SEE = (
    "These searches see a trigger that is one small patch, or one small change, for one class. They cannot see one "
    "that differs from image to image, bends or recolours the whole image, depends on the class that it is put on, or "
    "is larger than what the classes differ by."
)

MARGINS_CANNOT_SEE = (
    "Margins and shares need no idea of the trigger, but are large by nature where a class is easily told, or the "
    "model was trained adversarially."
)

BY_THE_RULE_ALONE = (
    "Believe the corrected verdict where it flags; what only the paper's rule flags, as {} here, is a suspicion to "
    "follow up and no all-clear: of models measured so, half of the backdoored ones looked so, and a quarter of the "
    "clean ones."
)
"""Which of two verdicts that differ to believe; ``docs/results/open_models.md`` counts the models."""

MEASURES = {"norm": "L1 norm", "share": "Share of images"}
"""Headings of what classes are judged by."""

OF_SMALL = (
    "Smallest trigger first. A class without a norm had no successful trigger and counts as larger than all others. "
    "Only classes at or below the median norm can be flagged; p-values of the others are 1. Budget exhausted: the "
    "search ended with its steps, and the trigger may be larger than need be."
)

OF_LARGE = (
    "The most suspicious class first. Index: distance from the mean of the other classes in their standard deviations. "
    "What was found is no mask and pattern, and is not saved as a trigger."
)

POWER = (
    "Corrected for the number of classes, it flags one honest network in twenty at most if the classes of honest "
    "networks differ alike; a backdoor that the references share, or a class no easier to reach than by nature, it "
    "does not see. On small networks of garments, pictures and traffic signs, trained after it was settled, it flagged "
    "1 of 16 honest ones, and 17 of 30 that had learnt a backdoor: all eight patches, five of eight blended pictures, "
    "fewer triggers of other kinds."
)
"""What the comparison with references is worth; ``experiments/inspection_power`` measures it."""

UNLIKE = (
    "Its classes differ from those of your networks {:.1f} times as much as these from each other: they are not of its "
    "kind (fewer images, longer training, another accuracy), and less can be told beside them."
)
"""Of references that are another kind of network."""

SMALLEST_SEARCH = 75
"""Steps that make the masks of Neural Cleanse small; after 20 to 40 it flags clean classes of small networks."""

History = Mapping[str, Sequence[Sequence[float]]]


@dataclass(kw_only=True)
class InspectionResult(EvaluationResult):
    """Reports of named inspectors on one model.

    Args:
        reports: name of the inspector to its report.
        samples: clean images that they had.
        class_names: names of the K classes.
        history: scalars of earlier epochs and of this one, (epoch, value) under the key of the logger, for the curves.
        key_prefix: what stands between the stage and the inspector's name in those keys.
        second: the same reports beside those on networks of the defender's own.
    """

    reports: dict[str, InspectionReport]
    samples: int
    class_names: list[str]
    history: History = field(default_factory=dict)
    key_prefix: str = ""
    second: SecondLook | None = None

    question = "Does it hide a backdoor?"

    def __post_init__(self) -> None:
        self.warnings = [
            *self.warnings,
            *(f"{name}: {text}" for name, report in self.reports.items() for text in report.warnings),
        ]

    def scalars(self) -> dict[str, float]:
        """``<inspector>/anomaly_index/class_<k>``, ``norm/class_<k>`` where finite, p-value and counts of flags.

        Without a verdict only the norms; where margins or shares are judged, these take the place of the norms;
        ``exhausted_classes`` counts searches that ended with their steps.
        """
        scalars: dict[str, float] = {}
        for name, report in self.reports.items():
            numbers = {f"anomaly_index/class_{label}": index for label, index in report.anomaly_index.items()}
            numbers |= {f"{report.measure}/class_{trigger.label}": trigger.norm for trigger in report.triggers}
            numbers |= {"p_value": report.p_value}
            scalars |= {f"{name}/{key}": value for key, value in numbers.items() if isfinite(value)}
            counts = {"flagged": report.flagged, "significant": report.significant, "exhausted": report.exhausted}
            scalars |= {f"{name}/{kind}_classes": len(found) for kind, found in counts.items() if found is not None}
        if self.second:
            scalars |= {f"second_look/index/class_{label}": index for label, index in enumerate(self.second.index)}
            counts = {"p_value": self.second.p_value, "flagged_classes": len(self.second.flagged)}
            scalars |= {f"second_look/{key}": value for key, value in counts.items()}
        return scalars

    def summary(self) -> str:
        """What each inspector flags, in words."""
        alone = (self._verdict(name, report) + _unfinished(report) for name, report in self.reports.items())
        return " ".join([*([self._beside_references(self.second)] if self.second else []), *alone])

    def answer(self) -> Answer:
        """The verdict beside references, or else the strongest of all inspectors, and what none of them can see.

        Where most searches had not ended, the strongest verdicts are not given; where that was early, none is.
        """
        reports = [each for each in self.reports.values() if not _is_noise(each)]
        done = [each for each in reports if not _is_cut(each)]
        if self.second and done:
            short = "Suspected" if self.second.flagged else "None found"
        elif any(each.significant for each in done):
            short = "Suspected"
        elif any(each.flagged for each in reports):
            short = "Perhaps"
        else:
            short = "None found" if any(each.flagged is not None for each in done) else "No verdict"
        blind = {report.large: MARGINS_CANNOT_SEE if report.large else CANNOT_SEE for report in self.reports.values()}
        return Answer(self.question, short, " ".join([self.summary(), *blind.values()]))

    def _beside_references(self, look: SecondLook) -> str:
        named = ", ".join(f"{self._name(k)} (index {look.index[k]:.2f})" for k in look.flagged)
        said = f"{named or 'no class'} stand{'s' * (len(look.flagged) < 2)} out"
        chance = f"p = {look.p_value:.2g} for {len(look.index)} classes"
        unlike = "" if look.comparable else f" {UNLIKE.format(look.unlike)}"
        return f"Beside {look.references} networks of your own, {said} ({chance}).{unlike} {POWER}"

    def _verdict(self, name: str, report: InspectionReport) -> str:
        if report.flagged is None:
            return f"{name} has no verdict{_reason(report)}."
        chance = f"p = {report.p_value:.2g} for {len(report.labels)} classes" if isfinite(report.p_value) else "no p"
        chance += f", {report.outliers.detail}" if report.outliers.detail else ""
        if report.significant and not report.flagged:
            named = ", ".join(f"{self._name(k)} (index {report.anomaly_index[k]:.2f})" for k in report.significant)
            return f"{name} flags {named} at the corrected level alone ({chance})."
        if not report.flagged:
            could = report.outliers.reach > report.outliers.threshold
            return f"{name} flags no class{'' if could else ', and could not have flagged any'} ({chance})."
        named = ", ".join(f"{self._name(k)} (index {report.anomaly_index[k]:.2f})" for k in report.flagged)
        kind = "also" if set(report.flagged) == set(report.significant) else "not all" if report.significant else "none"
        verdict = f"{name} flags {named}; {kind} at the level corrected for the number of classes ({chance})."
        alone = ", ".join(self._name(k) for k in report.flagged if k not in report.significant)
        return verdict + (f" {BY_THE_RULE_ALONE.format(alone)}" if alone else "")

    def _name(self, label: int) -> str:
        known = label < len(self.class_names) and self.class_names[label] != str(label)
        return f"class {label} ({self.class_names[label]})" if known else f"class {label}"

    def tables(self) -> list[Table]:
        """The verdicts, then the classes of every inspector, the most suspicious first."""
        second = [self._second_table(self.second)] if self.second else []
        return [*second, self._verdict_table(), *(self._class_table(*each) for each in self.reports.items())]

    def _second_table(self, look: SecondLook) -> Table:
        order = sorted(range(len(look.index)), key=lambda k: -look.index[k])[:MOST_CLASSES]
        return Table(
            "Beside networks of your own",
            ["Class", "Index", "p-value"],
            [[self._name(k), look.index[k], look.p_values[k]] for k in order],
            note=f"{', '.join(look.inspectors)} on the model and on {look.references} networks that are known to be "
            f"clean. Index: how much more a class stands out than in those, in their deviations. {POWER}",
        )

    def _verdict_table(self) -> Table:
        rows: list[list[Cell]] = []
        for name, report in self.reports.items():
            flagged, significant = (
                "no verdict" if labels is None else ", ".join(map(str, labels)) or "none"
                for labels in (report.flagged, report.significant)
            )
            cost = (report.launches, report.image_passes)
            settings = f"{report.inspector}{' searched in bf16' * report.bf16}"
            rows.append([name, flagged, significant, _finite(report.p_value), *cost, settings])
        columns = ["Inspector", "Flagged", "Flagged, corrected", "p-value", "Forwards", "Images in them", "Settings"]
        return Table(
            "Verdicts",
            columns,
            rows,
            note=f"{self.samples:,} clean images. Flagged: the paper's rule on the anomaly index, which flags one in "
            "three clean models of 10 classes. Corrected: against the largest index of as many Gaussian norms. "
            "No verdict: the norms allow none, as those of two classes.",
        )

    def _class_table(self, name: str, report: InspectionReport) -> Table:
        rows: list[list[Cell]] = []
        judged = list(zip(report.triggers, report.outliers.index, report.outliers.p_values, strict=True))
        shown = [judged[position] for position in report.order]
        found = sum(trigger.found for trigger in report.triggers)
        empty = len(shown) - found if len(shown) > MOST_CLASSES else 0
        for trigger, index, p_value in shown[: len(shown) - empty]:
            cost = f"{trigger.costs[-1][1]:.2g}" if trigger.costs else ""
            numbers = [_finite(trigger.norm), _finite(index), _finite(p_value), trigger.success_rate]
            rows.append([self._name(trigger.label), *numbers, trigger.status, trigger.steps, cost])
        columns = [
            "Class",
            MEASURES.get(report.measure, report.measure.capitalize()),
            "Anomaly index",
            "p-value",
            "Success rate",
            "Search",
            "Steps",
            "Last cost",
        ]
        return Table(
            f"Triggers found by {name}",
            columns,
            rows,
            percent=("Success rate",),
            note=(OF_LARGE if report.large else OF_SMALL)
            + (f" {empty:,} of {len(shown):,} classes had none and are in results.json." if empty else ""),
        )

    def pictures(self) -> list[Picture]:
        """Masks and patterns, anomaly indices, and their course over the epochs."""
        pictures = []
        for name, report in self.reports.items():
            grid = partial(trigger_grid, report, self.class_names)
            what = "Norm in pixels" if not report.large else report.measure.capitalize()
            caption = f"The most suspicious first. Orange: flagged by the paper's rule. {what}, anomaly index."
            title = f"Triggers found by {name}" if not report.large else f"Images found by {name}"
            count = min(len(report.triggers), MOST_CLASSES)
            alt = f"{title}: those of the {count} most suspicious classes. {self._verdict(name, report)}"
            pictures.append(Picture(f"{name}_triggers", title, grid, caption, alt=alt))
            if report.outliers.judged:
                bars = partial(anomaly_bars, report, self.class_names)
                side = "below" if report.large else "above"
                caption = f"Pale: {report.measure} {side} the median, never flagged. Dashed: the threshold."
                pictures.append(Picture(f"{name}_anomaly_index", f"Anomaly index by {name}", bars, caption))
            courses = self._courses(name, report)
            if max(map(len, courses.values()), default=0) > 1:
                draw = partial(anomaly_course, courses, report, self.class_names)
                title = f"Anomaly index over epochs by {name}"
                pictures.append(Picture(f"{name}_anomaly_over_epochs", title, draw))
        return pictures

    def _courses(self, name: str, report: InspectionReport) -> dict[int, list[tuple[int, float]]]:
        """Class to points (epoch, index)."""
        keys = {label: f"{self.stage}/{self.key_prefix}{name}/anomaly_index/class_{label}" for label in report.labels}
        return {
            label: [(int(epoch), value) for epoch, value in self.history[key]]
            for label, key in keys.items()
            if key in self.history
        }

    def as_dict(self) -> dict:
        """Verdicts and classes with their cost histories; the pixels are in the pictures and triggers.safetensors."""
        return {
            "samples": self.samples,
            "class_names": list(self.class_names),
            "inspectors": {name: _report(report) for name, report in self.reports.items()},
            "second_look": asdict(self.second) if self.second else None,
        }


def _report(report: InspectionReport) -> dict:
    judged = zip(report.triggers, report.outliers.index, report.outliers.p_values, strict=True)
    return {
        "settings": report.inspector,
        "judged": report.outliers.judged,
        "flagged": report.flagged,
        "significant": report.significant,
        "p_value": report.p_value,
        "median": report.outliers.median,
        "scale": report.outliers.scale,
        "reach": report.outliers.reach,
        "exhausted": report.exhausted,
        "measure": report.measure,
        "precision": "bf16" if report.bf16 else "float32",
        "launches": report.launches,
        "image_passes": report.image_passes,
        "classes": [
            {
                "label": trigger.label,
                "norm": trigger.norm,
                "anomaly_index": index,
                "p_value": p_value,
                "success_rate": trigger.success_rate,
                "status": trigger.status,
                "steps": trigger.steps,
                "costs": [list(each) for each in trigger.costs],
            }
            for trigger, index, p_value in judged
        ],
    }


def _reason(report: InspectionReport) -> str:
    """What the rule says of why there is none, up to its remedy."""
    said = [text.removeprefix("no verdict") for text in report.outliers.warnings if text.startswith("no verdict")]
    return said[0].partition(";")[0] if said else ""


def _is_cut(report: InspectionReport) -> bool:
    """Whether most searches ended with their steps or their time."""
    return 2 * len(report.exhausted) > len(report.labels)


def _is_noise(report: InspectionReport) -> bool:
    """Whether they ended so early that the masks are those that they began with, more or less."""
    return _is_cut(report) and max(each.steps for each in report.triggers) < SMALLEST_SEARCH


def _unfinished(report: InspectionReport) -> str:
    count = len(report.exhausted)
    early = f", so early (before step {SMALLEST_SEARCH}) that what they flag means nothing" if _is_noise(report) else ""
    text = f" {count} of {len(report.labels)} searches ended with their steps or their time, not by themselves"
    return f"{text}{early}." if count else ""


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
