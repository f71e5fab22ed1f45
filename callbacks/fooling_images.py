"""A gallery of fooling images after training."""

import time
from dataclasses import replace
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_adv.asking import logits_in_parts
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.share import Share
from lightning_adv.evaluation.shared_out import SharedOut, gathered
from lightning_adv.fooling import Fooling, FoolingSet
from lightning_adv.results.fooling import FoolingResult

__all__ = ["FoolingImages"]


_Measured = tuple[Judge, dict[str, tuple[FoolingSet, float]]]
"""Who says how sure the model is; name of each method to its images and its seconds."""


class FoolingImages(EpochEndEvaluation[_Measured]):
    """Looks for images that nobody recognises and the model is sure of, after the last epoch and in validate and test.

    All ranks go through every search together, and share out the images of each forward. Logs
    ``{stage}/{method}/median_confidence`` over the classes and ``fooled_classes``, the share of classes above 99 %; the
    gallery is a picture. How sure a randomised model is of the images found is the mean over draws that no method has
    seen.

    Args:
        methods: name to method.
        classes: wanted; None for all.
        every_n_epochs: also after so many epochs; None for the last alone.
        **shared: see ``EpochEndEvaluation``; no image is looked at, so ``max_samples`` and the like have no say.

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
        **shared: Shared,
    ) -> None:
        super().__init__(every_n_epochs=1 if every_n_epochs is None else every_n_epochs, **shared)
        if not methods:
            raise InputError("methods is empty: name one, e.g. methods: {gradient: FoolingGradient}")
        self.methods, self.classes, self.only_last = dict(methods), classes, every_n_epochs is None

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a class that the model does not have."""
        count = logits_in_parts(model, images.first().image).shape[1]
        wrong = [number for number in self.classes or () if not 0 <= number < count]
        if wrong:
            raise InputError(f"classes of FoolingImages must be some of 0 .. {count - 1}, got {wrong}")

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Run the methods."""
        self.check(model, images)
        judge, shape = Judge(model, images, self.seed), tuple(images.first().image.shape[1:])
        rank, ranks = trainer.global_rank, trainer.world_size
        asked, found = model if ranks == 1 else SharedOut(model, rank, ranks, gathered), {}
        for name in self.track(trainer, list(self.methods), self.name):
            began = time.perf_counter()
            made = self.methods[name](asked, shape, self.classes)
            if judge.draws > 1:
                sure = judge(made.images, torch.arange(len(made.images))).softmax(dim=1).nan_to_num(nan=0.0)
                made = replace(made, confidences=sure.gather(1, made.classes[:, None])[:, 0])
            moved = FoolingSet(made.images.cpu(), made.classes.cpu(), made.confidences.cpu(), made.medians)
            found[name] = moved, time.perf_counter() - began
        return judge, found

    def results(self, trainer: Trainer, measured: _Measured) -> FoolingResult:
        """The images of all methods."""
        judge, found = measured
        names = self.class_names(trainer, judge.classes)
        return FoolingResult(
            title="Fooling images",
            warnings=judge.notes,
            found={name: made for name, (made, _) in found.items()},
            class_names=[names[number] for number in (range(judge.classes) if self.classes is None else self.classes)],
            seconds={name: seconds for name, (_, seconds) in found.items()},
        )

    def _is_due(self, trainer: Trainer) -> bool:
        return self._is_last(trainer) if self.only_last else super()._is_due(trainer)
