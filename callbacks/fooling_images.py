"""A gallery of fooling images after training."""

import time
from typing import ClassVar

from pytorch_lightning import LightningModule, Trainer

from lightning_adv.callbacks.evaluation import EpochEndEvaluation, When
from lightning_adv.errors import InputError
from lightning_adv.evaluation.logits import clean_logits
from lightning_adv.evaluation.share import Share, from_every_rank
from lightning_adv.fooling import Fooling, FoolingSet
from lightning_adv.results.fooling import FoolingResult

__all__ = ["FoolingImages"]


_Measured = tuple[int, dict[str, tuple[FoolingSet, float]]]
"""Number of classes; name of each of this rank's methods to its images and its seconds."""


class FoolingImages(EpochEndEvaluation[_Measured]):
    """Looks for images that nobody recognises and the model is sure of, after the last epoch and in validate and test.

    Methods are shared out to the ranks. Logs ``{stage}/{method}/median_confidence`` over the classes and
    ``fooled_classes``, the share of classes above 99 %; the gallery is a picture.

    Args:
        methods: name to method.
        classes: wanted; None for all.
        every_n_epochs: also after so many epochs; None for the last alone.
        pictures: log pictures and tables "last", "always" or "never".
        name: two callbacks in one trainer need two names; one that is not the default stands before the keys.

    Raises:
        InputError: no method, a class that the model does not have, a forward that does not give logits.

    Example:
        >>> from lightning_adv.fooling import FoolingGradient
        >>> FoolingImages({"gradient": FoolingGradient()}).name
        'fooling'
    """

    default_name: ClassVar[str] = "fooling"

    def __init__(
        self,
        methods: dict[str, Fooling],
        classes: list[int] | None = None,
        every_n_epochs: int | None = None,
        pictures: When = "last",
        name: str | None = None,
    ) -> None:
        super().__init__(name, every_n_epochs or 1, pictures=pictures)
        if not methods:
            raise InputError("methods is empty: name one, e.g. methods: {gradient: FoolingGradient}")
        self.methods, self.classes, self.only_last = dict(methods), classes, every_n_epochs is None

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a class that the model does not have."""
        count = clean_logits(model, images.first().image).shape[1]
        wrong = [number for number in self.classes or () if not 0 <= number < count]
        if wrong:
            raise InputError(f"classes of FoolingImages must be some of 0 .. {count - 1}, got {wrong}")

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Run this rank's methods."""
        first = images.first()
        self.check(model, images)
        found = {}
        for name in self.track(trainer, list(self.methods)[trainer.global_rank :: trainer.world_size], self.name):
            began = time.perf_counter()
            made = self.methods[name](model, tuple(first.image.shape[1:]), self.classes)
            moved = FoolingSet(made.images.cpu(), made.classes.cpu(), made.confidences.cpu(), made.medians)
            found[name] = moved, time.perf_counter() - began
        return clean_logits(model, first.image).shape[1], found

    def results(self, trainer: Trainer, measured: _Measured) -> FoolingResult:
        """The images of all ranks' methods."""
        count, found = measured
        parts = from_every_rank(trainer, found)
        every = {name: found for part in parts for name, found in part.items()}
        names = self.class_names(trainer, count)
        return FoolingResult(
            title="Fooling images",
            found={name: every[name][0] for name in self.methods},
            class_names=[names[number] for number in (range(count) if self.classes is None else self.classes)],
            seconds={name: every[name][1] for name in self.methods},
        )

    def _is_due(self, trainer: Trainer) -> bool:
        return self._is_last(trainer) if self.only_last else super()._is_due(trainer)
