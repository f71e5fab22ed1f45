"""What a trigger does to a classifier: counts by source class, never averages, so that shards add up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from lightning_adv.asking import NO_CLASS
from lightning_adv.pixels import visible
from lightning_adv.results.examples import Examples
from lightning_adv.results.figures import adversarial_grid, class_shares, in_house_style
from lightning_adv.results.result import EvaluationResult, KeyFigure, Picture, Table, listed
from lightning_adv.results.shares import percent, percent_interval, wilson_interval, without_images

__all__ = ["BackdoorResult", "BackdoorTally", "trigger_panels", "triggered_grid"]

STAGES = {"val": "validation", "test": "test"}


@dataclass(kw_only=True)
class BackdoorResult(EvaluationResult):
    """Attack success and clean accuracy of a classifier that may have a backdoor.

    Success is a triggered image that is classified as the trigger's target. The headline leaves out images of the
    target class, which need no trigger for that, and is of the source classes alone where the backdoor has some: that
    the trigger also leads images of other classes there is false activation.

    Args:
        target: class that the trigger leads to, or "all_to_all" for the one after the image's own.
        trigger: its settings in one line.
        class_names: names of the K classes.
        per_class_samples: images by label [K].
        per_class_clean_correct: of them, classified correctly without the trigger [K].
        per_class_led: of them, classified as the target with the trigger [K].
        per_class_led_clean: of them, classified as the target without it [K].
        per_class_triggered_correct: of them, classified correctly in spite of the trigger [K].
        examples: a few images without and with the trigger.
        shown: what the trigger makes of a black, a grey and a white image [3, C, H, W].
        source_classes: classes whose images the trigger is to lead to the target; None for all others.

    Raises:
        ValueError: no image, or counts that contradict each other.
    """

    target: int | str
    trigger: str
    class_names: list[str]
    per_class_samples: list[int]
    per_class_clean_correct: list[int]
    per_class_led: list[int]
    per_class_led_clean: list[int]
    per_class_triggered_correct: list[int]
    examples: Examples | None = None
    shown: Tensor | None = None
    source_classes: list[int] | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"{self.title}: no image was evaluated")
        for name in ("clean_correct", "led", "led_clean", "triggered_correct"):
            counts = vars(self)[f"per_class_{name}"]
            if len(counts) != len(self.class_names) or any(
                not 0 <= count <= held for count, held in zip(counts, self.per_class_samples, strict=True)
            ):
                raise ValueError(f"per_class_{name}: {counts} does not fit images by class {self.per_class_samples}")

    @property
    def samples(self) -> int:
        """Images evaluated."""
        return sum(self.per_class_samples)

    @property
    def sources(self) -> list[int]:
        """Classes whose images the headline counts: the source classes, else all but the target's."""
        return [k for k in self._others(()) if self.source_classes is None or k in self.source_classes]

    @property
    def clean_accuracy(self) -> float:
        """Share of the images classified correctly without the trigger."""
        return sum(self.per_class_clean_correct) / self.samples

    @property
    def attack_success_rate(self) -> float | None:
        """Share of the images, those of the target class left out, that the trigger leads to the target."""
        return _share(*self._headline())

    @property
    def false_activation_rate(self) -> float | None:
        """Share of the images of neither source nor target that the trigger leads to the target; None without any."""
        return _share(*self._activated())

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the attack success rate (Wilson)."""
        led, samples = self._headline()
        return wilson_interval(led, samples) if samples else None

    def scalars(self) -> dict[str, float]:
        """Attack success without and with images of the target class, false activation, accuracy and its rest."""
        scalars = {
            "attack_success_rate": self.attack_success_rate,
            "false_activation_rate": self.false_activation_rate,
            "attack_success_rate_all_classes": sum(self.per_class_led) / self.samples,
            "clean_accuracy": self.clean_accuracy,
            "triggered_accuracy": sum(self.per_class_triggered_correct) / self.samples,
            "target_rate_without_trigger": self._share_of_sources(self.per_class_led_clean),
        }
        return {name: value for name, value in scalars.items() if value is not None}

    def summary(self) -> str:
        """Clean accuracy and attack success, in words."""
        images = f"{self.samples:,} {STAGES.get(self.stage, self.stage)} image" + ("s" if self.samples > 1 else "")
        clean = f"Of {images}, the model classifies {percent(self.clean_accuracy)} correctly"
        if self.attack_success_rate is None:
            whose = "all are of the target class" if self.source_classes is None else f"none is {self._of()}"
            return f"{clean}; {whose}, so nothing can be said of the trigger."
        led = f"{clean}; the trigger leads {percent(self.attack_success_rate)} of those {self._of()} to {self._goal()}"
        if self.false_activation_rate is not None:
            led = f"{led}, and {percent(self.false_activation_rate)} of those of the other classes"
        return f"{led}."

    def key_figures(self) -> list[KeyFigure]:
        """Attack success and clean accuracy, both as cards."""
        clean = wilson_interval(sum(self.per_class_clean_correct), self.samples)
        figures = [KeyFigure("clean_accuracy", "Clean accuracy", "no trigger", clean, card=True)]
        if self.attack_success_rate is not None:
            basis = f"{self.trigger} to {self.target}" + ("" if self.source_classes is None else f", {self._of()}")
            figures.insert(0, KeyFigure("attack_success_rate", "Attack success rate", basis, self.interval, card=True))
            if self.false_activation_rate is not None:
                interval = wilson_interval(*self._activated())
                figures.append(KeyFigure("false_activation_rate", "False activation", basis, interval, card=True))
        return figures

    def tables(self) -> list[Table]:
        """The shares with their intervals, and the same by source class."""
        led, samples = self._headline()
        rows = [
            self._row(f"Attack success, images {self._of()}", led, samples),
            *([self._row("False activation, images of the other classes", *self._activated())] if self._rest() else []),
            self._row("Attack success, all images", sum(self.per_class_led), self.samples),
            self._row(
                f"Classified as {self._goal()} without trigger, images {self._of()}",
                sum(self.per_class_led_clean[k] for k in self.sources),
                samples,
            ),
            self._row("Clean accuracy", sum(self.per_class_clean_correct), self.samples),
            self._row("Accuracy with trigger", sum(self.per_class_triggered_correct), self.samples),
        ]
        columns = ["Measure", "Images", "Share", "95% interval"]
        note = f"{self.trigger}; target: {self._goal()}. Wilson intervals."
        return [Table("Backdoor", columns, rows, percent=("Share",), note=note), self._class_table()]

    def pictures(self) -> list[Picture]:
        """Images before and after the trigger, the trigger itself, success and accuracy by class."""
        pictures = []
        if self.examples is not None:
            draw = partial(triggered_grid, self.examples, self.class_names)
            caption = (
                "Clean image, image with the trigger, difference. "
                "Heading: label; below it the prediction and its confidence, ✓ right, ✗ wrong."
            )
            tiles = partial(
                self.examples.tiles, self.class_names, "with trigger", "Taken for another class", "Withstood"
            )
            title = "Images with and without the trigger"
            pictures.append(Picture("triggered_images", title, draw, caption, tiles))
        if self.shown is not None:
            draw = partial(trigger_panels, self.shown)
            caption = f"{self.trigger} on black, grey and white."
            pictures.append(Picture("trigger", "The trigger", draw, caption, alt=f"The trigger {caption}"))
        led = self._led_to().lower()
        shares = {led: self._shares(self.per_class_led), "clean accuracy": self._class_accuracy()}
        draw = partial(class_shares, self.class_names, shares, "share of the images of a class")
        pictures.append(Picture("source_classes", f"{self._led_to()} by {self._whose()}", draw))
        return pictures

    def as_dict(self) -> dict:
        """Counts by class, shares and what was said of the examples."""
        return {
            "target": self.target,
            "trigger": self.trigger,
            "samples": self.samples,
            "class_names": list(self.class_names),
            **{name: list(counts) for name, counts in vars(self).items() if name.startswith("per_class_")},
            "attack_success_rate": self.attack_success_rate,
            "interval": None if self.interval is None else list(self.interval),
            "source_classes": self.source_classes,
            "false_activation_rate": self.false_activation_rate,
            "examples": None if self.examples is None else self.examples.as_dict(),
        }

    def _rest(self) -> list[int]:
        """Classes that the trigger is to leave alone: neither a source class nor the target."""
        return [] if self.source_classes is None else self._others(self.source_classes)

    def _others(self, classes: Sequence[int]) -> list[int]:
        return [k for k in range(len(self.class_names)) if k != self.target and k not in classes]

    def _headline(self) -> tuple[int, int]:
        """Images of the source classes led to the target, and images of them."""
        return self._led_of(self.sources)

    def _activated(self) -> tuple[int, int]:
        """The same of the classes that the trigger is to leave alone."""
        return self._led_of(self._rest())

    def _led_of(self, classes: Sequence[int]) -> tuple[int, int]:
        return tuple(sum(counts[k] for k in classes) for counts in (self.per_class_led, self.per_class_samples))

    def _share_of_sources(self, counts: Sequence[int]) -> float | None:
        return _share(sum(counts[k] for k in self.sources), self._headline()[1])

    def _goal(self) -> str:
        return "the next class" if self.target == "all_to_all" else f"class {self.class_names[self.target]}"

    def _led_to(self) -> str:
        """What it is that the trigger leads an image of some class to the target: no success where none is wanted."""
        return "Attack success" if self.source_classes is None else "Led to the target"

    def _whose(self) -> str:
        return "source class" if self.source_classes is None else "class"

    def _of(self) -> str:
        if self.source_classes is not None:
            plural = "es" if len(self.source_classes) > 1 else ""
            return f"of class{plural} {listed([self.class_names[k] for k in self.source_classes])}"
        return "of all classes" if self.target == "all_to_all" else "of other classes"

    def _row(self, name: str, count: int, samples: int) -> list[str | int | float | None]:
        interval = percent_interval(wilson_interval(count, samples) if samples else None)
        return [name, samples, _share(count, samples), interval]

    def _shares(self, counts: Sequence[int]) -> list[float | None]:
        """By class; nothing for the target's own, which needs no trigger."""
        pairs = zip(counts, self.per_class_samples, strict=True)
        return [count / held if held and k != self.target else None for k, (count, held) in enumerate(pairs)]

    def _class_accuracy(self) -> list[float | None]:
        pairs = zip(self.per_class_clean_correct, self.per_class_samples, strict=True)
        return [count / held if held else None for count, held in pairs]

    def _class_table(self) -> Table:
        columns = {
            self._led_to(): self._shares(self.per_class_led),
            "Target without trigger": self._shares(self.per_class_led_clean),
            "Clean accuracy": self._class_accuracy(),
        }
        rows = zip(self.class_names, self.per_class_samples, *columns.values(), strict=True)
        return Table(
            f"Backdoor by {self._whose()}",
            ["Class", "Images", *columns],
            [list(row) for row in rows if row[1]],
            percent=tuple(columns),
            note=without_images(self.per_class_samples),
        )


def _share(count: int, samples: int) -> float | None:
    return count / samples if samples else None


class BackdoorTally(Metric):
    """Two tables of label against prediction: of clean images, and of the same images with the trigger.

    The last column counts the images whose logits were NaN, which predict no class.

    Args:
        num_classes: K.
    """

    full_state_update = False
    clean: Tensor
    triggered: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name in ("clean", "triggered"):
            self.add_state(name, torch.zeros(num_classes, num_classes + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, label: Tensor, clean: Tensor, triggered: Tensor) -> None:
        """Add a batch: labels [N], and the predictions [N] for clean and for triggered images, ``NO_CLASS`` for NaN."""
        for table, prediction in ((self.clean, clean), (self.triggered, triggered)):
            column = torch.where(prediction == NO_CLASS, self.num_classes, prediction)
            places = label * (self.num_classes + 1) + column
            table += torch.bincount(places, minlength=table.numel()).view_as(table)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Over all ranks: [K, K + 1] counts of clean images and of triggered ones, rows are labels."""
        return self.clean, self.triggered


def triggered_grid(examples: Examples, class_names: Sequence[str]) -> Figure:
    """Clean image, image with the trigger and their difference, one column a sample."""
    return adversarial_grid(
        examples.clean,
        examples.adversarial,
        examples.labels,
        examples.clean_predictions,
        examples.adversarial_predictions,
        class_names=class_names,
        clean_confidences=examples.clean_confidences,
        adversarial_confidences=examples.adversarial_confidences,
        after_name="triggered",
    )


@in_house_style
def trigger_panels(shown: Tensor) -> Figure:
    """What a trigger makes of a black, a grey and a white image [3, C, H, W]."""
    pixels = visible(shown).detach().float().cpu().permute(0, 2, 3, 1).numpy()
    figure = Figure(figsize=(6.0, 2.3))
    panels = figure.subplots(1, 3)
    for axes, image, name in zip(panels, pixels, ("on black", "on grey", "on white"), strict=True):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, "gray", vmin=0, vmax=1)
        axes.images[0].set_interpolation("nearest")
        axes.set_title(name)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
    return figure
