"""What a mitigation did to a model: clean accuracy and attack success before and after."""

from dataclasses import dataclass

from lightning_adv.mitigations import MitigationReport
from lightning_adv.results.result import EvaluationResult, KeyFigure, Table
from lightning_adv.results.shares import percent, percent_interval, wilson_interval

__all__ = ["MitigationResult"]


@dataclass(kw_only=True)
class MitigationResult(EvaluationResult):
    """Counts before and after a mitigation, on images that it has not seen.

    Args:
        report: what the mitigation says.
        trigger: settings of the trigger in one line; empty if none is known.
        target: class that it leads to.
        samples: images measured.
        correct: of them, classified correctly without trigger, before and after.
        source_samples: images that are not of the target class; None without trigger.
        led: of them, classified as the target with the trigger, before and after.
    """

    report: MitigationReport
    trigger: str
    target: int | str | None
    samples: int
    correct: list[int]
    source_samples: int | None = None
    led: list[int] | None = None

    @property
    def measures(self) -> dict[str, tuple[int, int, int]]:
        """Name to images, and how many of them before and after."""
        found = {"clean_accuracy": (self.samples, *self.correct)}
        if self.led is not None and self.source_samples:
            found["attack_success_rate"] = (self.source_samples, *self.led)
        return found

    def scalars(self) -> dict[str, float]:
        """Shares before and after; channels pruned, if any layer was looked at."""
        scalars = {}
        for name, (samples, before, after) in self.measures.items():
            scalars |= {f"{name}_before": before / samples, f"{name}_after": after / samples}
        if self.report.repair.channels:
            scalars["pruned_channels"] = float(len(self.report.repair.pruned))
        return scalars

    def summary(self) -> str:
        """Before and after, in words."""
        scalars = self.scalars()
        names = {"attack_success_rate": "attack success", "clean_accuracy": "clean accuracy"}
        changes = [
            f"{text} from {percent(scalars[f'{name}_before'])} to {percent(scalars[f'{name}_after'])}"
            for name, text in names.items()
            if f"{name}_before" in scalars
        ]
        return f"{self.report.mitigation.partition('(')[0]} took {' and '.join(changes)}; {self._done()}."

    def key_figures(self) -> list[KeyFigure]:
        """What is left of the attack, and of the accuracy."""
        labels = {"attack_success_rate": "Attack success after repair", "clean_accuracy": "Clean accuracy after repair"}
        return [
            KeyFigure(f"{name}_after", text, self.report.mitigation, wilson_interval(after, samples), card=True)
            for name, text in labels.items()
            for samples, _, after in [self.measures.get(name, (0, 0, 0))]
            if samples
        ]

    def tables(self) -> list[Table]:
        """Before and after, then what was done."""
        titles = {"clean_accuracy": "Clean accuracy", "attack_success_rate": "Attack success, images of other classes"}
        rows = []
        for name, (samples, before, after) in self.measures.items():
            intervals = [percent_interval(wilson_interval(count, samples)) for count in (before, after)]
            rows.append([titles[name], samples, before / samples, intervals[0], after / samples, intervals[1]])
        columns = ["Measure", "Images", "Before", "95% before", "After", "95% after"]
        attack = f"{self.trigger} to {self.target}. " if self.trigger else "No trigger is known. "
        note = f"{attack}{self.report.mitigation}; {self._done()}. Wilson intervals."
        return [Table("Before and after the mitigation", columns, rows, percent=("Before", "After"), note=note)]

    def as_dict(self) -> dict:
        """Counts, and what was done."""
        repair = self.report.repair
        return {
            "mitigation": self.report.mitigation,
            "trigger": self.trigger,
            "target": self.target,
            "samples": self.samples,
            "correct": list(self.correct),
            "source_samples": self.source_samples,
            "led": None if self.led is None else list(self.led),
            "tuned_on": self.report.tuned_on,
            "held_out": self.report.held_out,
            "layer": repair.layer,
            "channels": repair.channels,
            "pruned": list(repair.pruned),
            "unlearnt": list(repair.unlearnt),
        }

    def _done(self) -> str:
        repair = self.report.repair
        done = [f"fine-tuned on {self.report.tuned_on:,} clean images"]
        if repair.channels:
            done.insert(0, f"{len(repair.pruned)} of {repair.channels} channels of {repair.layer} pruned")
        if repair.unlearnt:
            done.append(f"triggers of class {', '.join(map(str, repair.unlearnt))} unlearnt")
        return ", ".join(done)
