"""The backdoor that an evaluation measures: given to it, or the one that the training images were poisoned with."""

from dataclasses import dataclass

from pytorch_lightning import LightningModule, Trainer

from lightning_adv.backdoors import Target, Trigger, check_target
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.logits import clean_logits
from lightning_adv.evaluation.share import Share

__all__ = ["KnownBackdoor", "known_backdoor"]


@dataclass(frozen=True)
class KnownBackdoor:
    """A trigger, and the class that it leads to or "all_to_all"."""

    trigger: Trigger
    target: Target

    def check(self, model: LightningModule, images: Share) -> int:
        """Number of the model's classes.

        Raises:
            InputError: the trigger does not fit the images, or the model has no logit for the target.
        """
        first = images.first().image.float()
        self.trigger(first)
        classes = clean_logits(model, first).shape[1]
        check_target(self.target, classes)
        return classes


def known_backdoor(
    who: str, trainer: Trainer, trigger: Trigger | None, target: Target | None, required: bool = True
) -> KnownBackdoor | None:
    """Trigger and target as given, else the datamodule's; None where neither is known and none is required.

    Args:
        who: asks, for what is said of what is missing.
        trainer: its datamodule may be a ``PoisonedDataModule``.
        trigger, target: as given; None for the datamodule's.
        required: whether to refuse a trainer where neither is known.

    Raises:
        InputError: one of the two is missing.
    """
    facts = DataFacts(trainer.datamodule)
    known = facts.trigger if trigger is None else trigger
    leads_to = facts.target if target is None else target
    known = known if isinstance(known, Trigger) else None  # a stranger's datamodule may call anything so
    if known is None and leads_to is None and not required:
        return None
    if known is None or leads_to is None:
        missing = "trigger" if known is None else "target"
        raise InputError(f"{who} has no {missing}: give it trigger and target, or use it with a PoisonedDataModule")
    return KnownBackdoor(known, leads_to)
