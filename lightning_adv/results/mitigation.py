"""What a mitigation did to a model: clean accuracy and attack success before and after."""

from dataclasses import asdict, dataclass, field

from lightning_adv.mitigations import MitigationReport
from lightning_adv.results.result import EvaluationResult, KeyFigure, Table
from lightning_adv.results.shares import percent, percent_interval, wilson_interval

__all__ = ["MitigationResult", "Threshold"]

WHEN = ("before", "after", "retuned")

FAR = 0.1
"""Clean accuracy that the oracle of published comparisons may lose."""


@dataclass(frozen=True)
class Threshold:
    """What a threshold of pruning would have left, before any fine-tuning.

    Args:
        threshold: in the words of the method.
        pruned: channels that it takes.
        held_out_correct: of the clean images that it was chosen by.
        correct: of the measured images, classified correctly without trigger.
        led: of those of other classes than the target, classified as the target with the trigger.
    """

    threshold: float
    pruned: int
    held_out_correct: int
    correct: int
    led: int


@dataclass(kw_only=True)
class MitigationResult(EvaluationResult):
    """Counts before and after a mitigation, on images that it has not seen.

    Args:
        report: what the mitigation says.
        trigger: settings of the trigger in one line; empty if none is known.
        target: class that it leads to.
        samples: images measured.
        correct: of them, classified correctly without trigger, before and after, and after retuning if there was any.
        source_samples: images that are not of the target class; None without trigger.
        led: of them, classified as the target with the trigger, likewise.
        retuning: its settings in one line; empty if there was none.
        thresholds: of pruning, the mildest first; none where no trigger is known.
    """

    report: MitigationReport
    trigger: str
    target: int | str | None
    samples: int
    correct: list[int]
    source_samples: int | None = None
    led: list[int] | None = None
    retuning: str = ""
    thresholds: list[Threshold] = field(default_factory=list)

    @property
    def measures(self) -> dict[str, tuple[int, ...]]:
        """Name to images, and how many of them before and after, and after retuning."""
        found = {"clean_accuracy": (self.samples, *self.correct)}
        if self.led is not None and self.source_samples:
            found["attack_success_rate"] = (self.source_samples, *self.led)
        return found

    def scalars(self) -> dict[str, float]:
        """Shares before, after and retuned; channels pruned, if any layer was looked at."""
        scalars = {}
        for name, (samples, *counts) in self.measures.items():
            scalars |= {f"{name}_{when}": count / samples for when, count in zip(WHEN, counts, strict=False)}
        if self.report.repair.channels:
            scalars["pruned_channels"] = float(self.report.repair.pruned)
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
        said = f"{self.report.mitigation.partition('(')[0]} took {' and '.join(changes)}; {self._done()}."
        if "attack_success_rate_retuned" in scalars:
            back = percent(scalars["attack_success_rate_retuned"])
            said += f" Fine-tuned again on clean images and a few poisoned ones, its attack success is {back}."
        return said

    def key_figures(self) -> list[KeyFigure]:
        """What is left of the attack, and of the accuracy."""
        labels = {"attack_success_rate": "Attack success after repair", "clean_accuracy": "Clean accuracy after repair"}
        figures = [
            KeyFigure(f"{name}_after", labels[name], self.report.mitigation, wilson_interval(after, samples), card=True)
            for name, (samples, _, after, *_) in sorted(self.measures.items())
        ]
        if self.retuning and self.source_samples:
            samples, *_, retuned = self.measures["attack_success_rate"]
            basis = f"{self.report.mitigation}, then {self.retuning}"
            interval = wilson_interval(retuned, samples)
            figures.append(KeyFigure("attack_success_rate_retuned", "Attack success after retuning", basis, interval))
        return figures

    def tables(self) -> list[Table]:
        """Before and after, then what was done."""
        titles = {"clean_accuracy": "Clean accuracy", "attack_success_rate": "Attack success, images of other classes"}
        rows = []
        for name, (samples, *counts) in self.measures.items():
            shares = [(count / samples, percent_interval(wilson_interval(count, samples))) for count in counts]
            rows.append([titles[name], samples, *(cell for pair in shares for cell in pair)])
        columns = ["Measure", "Images", "Before", "95% before", "After", "95% after"]
        columns += ["Retuned", "95% retuned"] if self.retuning else []
        attack = f"{self.trigger} to {self.target}. " if self.trigger else "No trigger is known. "
        note = f"{attack}{self.report.mitigation}; {self._done()}. Wilson intervals."
        if self.retuning:
            note += f" Retuned: a copy of the mended model after {self.retuning}; what comes back was only hidden."
        shares = ("Before", "After", "Retuned") if self.retuning else ("Before", "After")
        tables = [Table("Before and after the mitigation", columns, rows, percent=shares, note=note)]
        if self.thresholds and self.source_samples:
            tables.append(self._threshold_table())
        if self.report.repair.rates:
            tables.append(self._rate_table())
        if len(layers := self.report.repair.prunings) > 1:
            found = [[each.layer, each.channels, ", ".join(map(str, sorted(each.pruned)))] for each in layers]
            said = "A convolution + the BatchNorm that takes what it makes; other layers stand alone."
            tables.append(Table("Layers that were looked at", ["Layer", "Channels", "Pruned"], found, note=said))
        return tables

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
            "retuning": self.retuning,
            "thresholds": [asdict(each) for each in self.thresholds],
            "oracle": asdict(chosen) if (chosen := self.oracles_choice()) else None,
            "tuned_on": self.report.tuned_on,
            "held_out": self.report.held_out,
            "channels": repair.channels,
            "pruned": {each.layer: list(each.pruned) for each in repair.prunings},
            "threshold": repair.threshold,
            "unlearnt": list(repair.unlearnt),
            "lr": repair.lr,
            "rates": [list(each) for each in repair.rates],
        }

    def oracles_choice(self) -> Threshold | None:
        """The threshold that leaves least of the attack, among those that cost no more than a tenth of the accuracy."""
        cheap = [each for each in self.thresholds if self.correct[0] - each.correct <= FAR * self.samples]
        return min(cheap, key=lambda each: each.led, default=None)

    def _threshold_table(self) -> Table:
        """What each threshold would have left, who chose which."""
        oracle, rows = self.oracles_choice(), []
        for each in self.thresholds:
            chosen = "x" if each.threshold == self.report.repair.threshold else ""
            accuracy, success = each.correct / self.samples, each.led / self.source_samples
            held_out = each.held_out_correct / self.report.held_out
            rows.append(
                [each.threshold, each.pruned, held_out, chosen, accuracy, success, "x" if each is oracle else ""]
            )
        columns = ["Threshold", "Pruned", "Held-out accuracy", "Chosen", "Clean accuracy", "Attack success", "Oracle"]
        note = (
            f"Before any fine-tuning. Chosen by the {self.report.held_out:,} held-out clean images. The oracle takes "
            "the lowest attack success within a tenth of clean accuracy, as many published comparisons do: it knows "
            "the trigger and the test images, and no defender has its figures."
        )
        return Table("Thresholds of pruning", columns, rows, percent=("Held-out accuracy", *columns[4:6]), note=note)

    def _rate_table(self) -> Table:
        """What each rate of fine-tuning would have left of the clean accuracy."""
        repair, held_out = self.report.repair, self.report.held_out
        rows = [[f"{lr:g}", correct / held_out, "x" if lr == repair.lr else ""] for lr, correct in repair.rates]
        note = (
            f"Chosen by the {held_out:,} held-out clean images, of which {self.report.clean_accuracy_before:.1%} were "
            "right before; the attack has no say. Rates behind the one that was chosen may not have been tried."
        )
        columns = ["Learning rate", "Held-out accuracy", "Chosen"]
        return Table("Rates of fine-tuning", columns, rows, percent=("Held-out accuracy",), note=note)

    def _done(self) -> str:
        repair = self.report.repair
        done = [f"given {self.report.tuned_on:,} clean images"]
        if repair.channels:
            layers = repair.prunings[0].layer if len(repair.prunings) == 1 else f"{len(repair.prunings)} layers"
            done.insert(0, f"{repair.pruned} of {repair.channels} channels of {layers} pruned")
        if repair.lr is not None:
            done.append(f"at a chosen rate of {repair.lr:g}")
        if repair.unlearnt:
            done.append(f"triggers of class {', '.join(map(str, repair.unlearnt))} unlearnt")
        return ", ".join(done)
