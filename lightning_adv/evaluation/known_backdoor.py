"""The backdoor that an evaluation measures: given to it, or the one that the training images were poisoned with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import logits_in_parts
from lightning_adv.backdoors import Target, Trigger, backdoor_labels, check_classes
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.share import Share
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import InputAware

__all__ = ["KnownBackdoor", "known_backdoor"]


@dataclass(frozen=True)
class KnownBackdoor:
    """A trigger, the class that it leads to or "all_to_all", and the classes that it leads there; None for all."""

    trigger: Trigger
    target: Target
    source_classes: Sequence[int] | None = None

    def is_source(self, label: Tensor, num_classes: int) -> Tensor:
        """Which of these labels [N] the attacker wants led elsewhere: not the target, and of a source class if any."""
        elsewhere = label != backdoor_labels(label, self.target, num_classes)
        if self.source_classes is None:
            return elsewhere
        return elsewhere & torch.isin(label, torch.tensor(self.source_classes, device=label.device))

    def check(self, model: LightningModule, images: Share) -> int:
        """Number of the model's classes.

        Raises:
            InputError: the trigger does not fit the images, or the model has no logit for the target or a source.
        """
        first = images.first().image.float()
        self.trigger(first)
        classes = logits_in_parts(model, first).shape[1]
        check_classes(self.target, classes, "target", self.source_classes, None)
        return classes


def known_backdoor(
    who: str,
    trainer: Trainer,
    trigger: Trigger | None,
    target: Target | None,
    source_classes: Sequence[int] | None = None,
    required: bool = True,
) -> KnownBackdoor | None:
    """Trigger and target as given, else the datamodule's, else those that the model was trained to obey.

    None where neither is known and none is required.

    Args:
        who: asks, for what is said of what is missing.
        trainer: its datamodule may be a ``PoisonedDataModule``, its model have a backdoor as its objective.
        trigger, target: as given; None for what the trainer knows.
        source_classes: as given; None for those of the datamodule if the target is its own, else for all.
        required: whether to refuse a trainer where neither is known.

    Raises:
        InputError: one of the two is missing.
    """
    knows = facts = DataFacts(trainer.datamodule)
    module = trainer.lightning_module
    if knows.trigger is None and isinstance(module, ClassifierModule) and isinstance(module.objective, InputAware):
        knows = module.objective
    known = knows.trigger if trigger is None else trigger
    leads_to = knows.target if target is None else target
    known = known if isinstance(known, Trigger) else None  # a stranger's datamodule may call anything so
    if known is None and leads_to is None and not required:
        return None
    if known is None or leads_to is None:
        missing = "trigger" if known is None else "target"
        raise InputError(f"{who} has no {missing}: give it trigger and target, or use it with a PoisonedDataModule")
    if source_classes is None and target is None:
        source_classes = facts.source_classes
    return KnownBackdoor(known, leads_to, source_classes)
