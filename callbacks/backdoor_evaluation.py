"""Attack success rate of a backdoor at the end of an epoch."""

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import check_labels, confident, predicted
from lightning_adv.backdoors import Target, Trigger, backdoor_labels
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.evaluation.first_few import FirstFew
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.known_backdoor import KnownBackdoor, known_backdoor
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import Share
from lightning_adv.results.backdoor import BackdoorResult, BackdoorTally
from lightning_adv.results.examples import Examples

__all__ = ["BackdoorEvaluation"]


@dataclass(frozen=True)
class _Measured:
    """What this rank has measured; ``greys`` is what the trigger makes of a black, a grey and a white image."""

    backdoor: KnownBackdoor
    judge: Judge
    tally: BackdoorTally
    shown: FirstFew
    greys: Tensor


class BackdoorEvaluation(EpochEndEvaluation[_Measured]):
    """Where a trigger leads the images of an evaluation, beside what the model says of them without it.

    Works with any LightningModule whose ``forward`` maps images in [0, 1] to logits and any loader of
    ``(image, label, ...)`` with clean images; on a clean model it tells how often the trigger works by chance.

    Logs ``{stage}/{name}/attack_success_rate`` (images of the target class left out) and beside it
    ``attack_success_rate_all_classes``, ``clean_accuracy``, ``triggered_accuracy`` (correct in spite of the
    trigger) and ``target_rate_without_trigger``. Of a backdoor for some source classes, attack success is that of their
    images, and ``false_activation_rate`` the share of images of the other classes that the trigger leads to the target.
    A randomised model is judged by the mean of draws, the same with the trigger and without.

    Args:
        trigger: default the test trigger of the datamodule, a ``PoisonedDataModule``.
        target: the class that it leads to, or "all_to_all"; default that of the datamodule.
        examples: images shown of those that the trigger turned, and as many of those that withstood it.
        source_classes: classes whose images it is to lead there; default those of the datamodule, or all.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: before training starts: no trigger or target, one that does not fit the images or the model.

    Example:
        >>> from lightning_adv.backdoors import Patch
        >>> BackdoorEvaluation(Patch(size=3), target=2, max_samples=500).name
        'backdoor'
    """

    default_name: ClassVar[str] = "backdoor"
    named_by_default: ClassVar[bool] = True

    def __init__(
        self,
        trigger: Trigger | None = None,
        target: Target | None = None,
        examples: int = 4,
        source_classes: list[int] | None = None,
        **shared: Shared,
    ) -> None:
        super().__init__(**shared)
        self.require(0, examples=examples)
        self.trigger, self.target, self.examples = trigger, target, examples
        self.source_classes = source_classes

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a trigger that does not fit the images, a target that the model has no logit for."""
        self._known(images.trainer).check(model, images)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Classify this rank's images without and with the trigger."""
        backdoor = self._known(trainer)
        classes, judge = backdoor.check(model, images), Judge(model, images, self.seed)
        image = images.first().image
        greys = torch.tensor([0.0, 0.5, 1.0], device=image.device).view(3, 1, 1, 1).expand(3, *image[0].shape)
        tally, shown = BackdoorTally(classes).to(model.device), FirstFew(self.examples)
        for batch in self.track(trainer, images, self.name):
            check_labels(batch.label, classes)
            triggered = backdoor.trigger(batch.image.float())
            before, after = judge(batch.image, batch.index), judge(triggered, batch.index)
            tally.update(batch.label, predicted(before), predicted(after))
            sources = backdoor.is_source(batch.label, classes)
            parts = (batch.image.float(), triggered, batch.label)
            said = zip(*(confident(logits) for logits in (before, after)), strict=True)
            shown.add(
                *(part[sources] for part in (*parts, *chain.from_iterable(said))),
                kind=(predicted(after) != batch.label)[sources],
            )
        return _Measured(backdoor, judge, tally, shown, backdoor.trigger(greys).cpu())

    def results(self, trainer: Trainer, measured: _Measured) -> BackdoorResult:
        """Counts over all ranks."""
        backdoor = measured.backdoor
        clean, triggered = (table.cpu() for table in measured.tally.compute())
        classes = len(clean)
        label = torch.arange(classes)
        led = backdoor_labels(label, backdoor.target, classes)
        examples = measured.shown.joined()
        return BackdoorResult(
            title="Backdoor",
            warnings=[
                *measured.judge.notes,
                *nan_warnings(int(clean[:, classes].sum()), int(clean.sum())),
                *nan_warnings(int(triggered[:, classes].sum()), int(clean.sum()), "with the trigger"),
            ],
            target=backdoor.target,
            trigger=repr(backdoor.trigger),
            class_names=self.class_names(trainer, classes),
            source_classes=None if backdoor.source_classes is None else sorted({*backdoor.source_classes}),
            per_class_samples=clean.sum(dim=1).tolist(),
            per_class_clean_correct=clean.diagonal().tolist(),
            per_class_led=triggered[label, led].tolist(),
            per_class_led_clean=clean[label, led].tolist(),
            per_class_triggered_correct=triggered.diagonal().tolist(),
            examples=None if examples is None else Examples(*examples),
            shown=measured.greys,
        )

    def _known(self, trainer: Trainer) -> KnownBackdoor:
        who = f"BackdoorEvaluation {self.name!r}"
        return known_backdoor(who, trainer, self.trigger, self.target, self.source_classes)
