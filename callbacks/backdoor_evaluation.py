"""Attack success rate of a backdoor at the end of an epoch."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import confident, predicted
from lightning_adv.backdoors import Target, Trigger, backdoor_labels, check_target
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, When
from lightning_adv.errors import InputError
from lightning_adv.evaluation.logits import check_labels, clean_logits, nan_warnings
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.results.backdoor import BackdoorResult, BackdoorTally
from lightning_adv.results.examples import Examples

__all__ = ["BackdoorEvaluation"]


class BackdoorEvaluation(EpochEndEvaluation):
    """Where a trigger leads the images of an evaluation, beside what the model says of them without it.

    Works with any LightningModule whose ``forward`` maps images in [0, 1] to logits and any loader of
    ``(image, label, ...)`` with clean images; on a clean model it tells how often the trigger works by chance.

    Logs ``{stage}/{name}/attack_success_rate`` (images of the target class left out) and beside it
    ``attack_success_rate_all_classes``, ``clean_accuracy``, ``triggered_accuracy`` (correct in spite of the
    trigger) and ``target_rate_without_trigger``.

    Args:
        trigger: default that of the datamodule, a ``PoisonedDataModule``.
        target: the class that it leads to, or "all_to_all"; default that of the datamodule.
        max_samples: images over all ranks, a seeded choice; None for all.
        every_n_epochs: in fit; the last epoch is always evaluated.
        batch_size: images a batch on one rank; None for the data loader's.
        examples: images that a picture shows with and without the trigger.
        pictures: log pictures and tables "last" (after the last epoch, in validate and test), "always" or "never".
        seed: of the choice of images.
        name: part of the keys; two callbacks in one trainer need two names.

    Raises:
        InputError: before training starts: no trigger or target, one that does not fit the images or the model.

    Example:
        >>> from lightning_adv.backdoors import Patch
        >>> BackdoorEvaluation(Patch(size=3), target=2, max_samples=500).name
        'backdoor'
    """

    def __init__(
        self,
        trigger: Trigger | None = None,
        target: Target | None = None,
        max_samples: int | None = None,
        every_n_epochs: int = 1,
        batch_size: int | None = None,
        examples: int = 8,
        pictures: When = "last",
        seed: int = 0,
        name: str = "backdoor",
    ) -> None:
        super().__init__(name, every_n_epochs, max_samples, batch_size, pictures, seed)
        if examples < 0:
            raise InputError(f"examples must not be negative, got {examples}")
        self.trigger, self.target, self.examples = trigger, target, examples

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a trigger that does not fit the images, a target that the model has no logit for."""
        trigger, target = self._attack(model.trainer)
        first = images.first().image
        trigger(first)
        check_target(target, clean_logits(model, first).shape[1])

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> None:
        """Classify this rank's images without and with the trigger."""
        trigger, target = self._attack(trainer)
        first = images.first().image
        classes = clean_logits(model, first).shape[1]
        check_target(target, classes)
        self._shown = trigger(
            torch.tensor([0.0, 0.5, 1.0], device=first.device).view(3, 1, 1, 1).expand(3, *first[0].shape)
        )
        self._tally = BackdoorTally(classes).to(model.device)
        self._kept: list[list[Tensor]] = []
        for batch in self.track(trainer, images, self.name):
            check_labels(batch.label, classes)
            triggered = trigger(batch.image.float())
            before, after = clean_logits(model, batch.image), clean_logits(model, triggered)
            self._tally.update(batch.label, predicted(before), predicted(after))
            self._keep(batch, triggered, before, after, target)

    def results(self, trainer: Trainer) -> BackdoorResult:
        """Counts over all ranks."""
        trigger, target = self._attack(trainer)
        clean, triggered = (table.cpu() for table in self._tally.compute())
        classes = len(clean)
        label = torch.arange(classes)
        led = backdoor_labels(label, target, classes)
        names = getattr(trainer.datamodule, "class_names", None)
        return BackdoorResult(
            title="Backdoor",
            warnings=[
                *nan_warnings(int(clean[:, classes].sum()), int(clean.sum())),
                *nan_warnings(int(triggered[:, classes].sum()), int(clean.sum()), "with the trigger"),
            ],
            target=target,
            trigger=repr(trigger),
            class_names=list(names) if names and len(names) == classes else [str(k) for k in range(classes)],
            per_class_samples=clean.sum(dim=1).tolist(),
            per_class_clean_correct=clean.diagonal().tolist(),
            per_class_led=triggered[label, led].tolist(),
            per_class_led_clean=clean[label, led].tolist(),
            per_class_triggered_correct=triggered.diagonal().tolist(),
            examples=Examples(*(torch.cat(part) for part in zip(*self._kept, strict=True))) if self._kept else None,
            shown=self._shown.cpu(),
        )

    def _attack(self, trainer: Trainer) -> tuple[Trigger, Target]:
        """The trigger and its target: given, or those that the training images were poisoned with."""
        data = trainer.datamodule
        trigger = getattr(data, "trigger", None) if self.trigger is None else self.trigger
        target = getattr(data, "target", None) if self.target is None else self.target
        if not isinstance(trigger, Trigger) or target is None:
            missing = "target" if isinstance(trigger, Trigger) else "trigger"
            raise InputError(
                f"BackdoorEvaluation {self.name!r} has no {missing}: give it one, or train with a PoisonedDataModule"
            )
        return trigger, target

    def _keep(self, batch: EvaluationBatch, triggered: Tensor, before: Tensor, after: Tensor, target: Target) -> None:
        """The first images of this rank that are not of the target class, for the picture (rank zero draws it)."""
        wanted = self.examples - sum(len(part[0]) for part in self._kept)
        if wanted <= 0:
            return
        others = (batch.label != backdoor_labels(batch.label, target, before.shape[1])).nonzero().flatten()[:wanted]
        if not len(others):
            return
        (clean_said, clean_sure), (said, sure) = (confident(each[others]) for each in (before, after))
        parts = (batch.image[others], triggered[others], batch.label[others], clean_said, said, clean_sure, sure)
        self._kept.append([part.detach().float().cpu() if part.dim() == 4 else part.detach().cpu() for part in parts])
