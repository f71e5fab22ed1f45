"""Substitutes of black-box attacks, learnt anew from the model that is evaluated."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from lightning_adv.attacks import Attack, SubstituteAttack
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.share import Share

__all__ = ["Substitutes"]

SEED_IMAGES = 100
"""Images that the attacker has to begin with, as Papernot et al. count them for MNIST."""


class Substitutes:
    """Fits the substitute attacks that were handed over without a fit, before every evaluation.

    The attacker's first images are calibration images of the datamodule, which nobody trains or is judged on; labels
    are asked of the model. Every rank learns the same substitute.

    Args:
        attacks: name to attack; those of other kinds, and those fitted already, are left alone.
    """

    def __init__(self, attacks: dict[str, Attack]) -> None:
        found = attacks.items()
        self.attacks = {name: each for name, each in found if isinstance(each, SubstituteAttack) and each.model is None}

    def check(self, trainer: Trainer) -> None:
        """Refuse a trainer without images for the attacker.

        Raises:
            InputError: its datamodule has no calibration images.
        """
        if self.attacks:
            self._loader(trainer)

    def fit(self, trainer: Trainer, model: LightningModule, num_classes: int) -> None:
        """Learn the substitutes; call it on every rank."""
        if not self.attacks:
            return
        share = Share(trainer, self._loader(trainer), SEED_IMAGES, SEED_IMAGES, seed=0).on_every_rank()
        images = torch.cat([batch.image for batch in share])
        for attack in self.attacks.values():
            attack.fit(model, images[: attack.queries], num_classes)

    def _loader(self, trainer: Trainer) -> DataLoader:
        make = DataFacts(trainer.datamodule).calibration_dataloader
        loader = None if make is None else make()
        if not isinstance(loader, DataLoader):
            raise InputError(
                f"SubstituteAttack {', '.join(self.attacks)} begins with images of the attacker's own, and the "
                "datamodule has no calibration_dataloader: give it one, or call fit(oracle, seed_images, num_classes)"
            )
        return loader
