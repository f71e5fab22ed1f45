"""Substitutes of black-box attacks, learnt anew from the model that is evaluated."""

from itertools import chain

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_adv.attacks import Attack, SubstituteAttack
from lightning_adv.attacks.substitute import SubstituteRound
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.meeting import wait_for_every_rank
from lightning_adv.evaluation.share import Share, from_every_rank

__all__ = ["Substitutes"]

SEED_IMAGES = 100
"""Images that the attacker has to begin with, as Papernot et al. count them for MNIST."""


class Substitutes:
    """Fits the substitute attacks that were handed over without a fit, before every evaluation.

    The attacker's first images are calibration images of the datamodule, which nobody trains or is judged on; labels
    are asked of the model. Each substitute is learnt on one rank and sent to the others.

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
        own: dict[str, InputError | tuple[nn.Module, list[SubstituteRound]]] = {}
        for name in list(self.attacks)[trainer.global_rank :: trainer.world_size]:
            attack = self.attacks[name]
            try:
                attack.fit(model, images[: attack.queries], num_classes)
                own[name] = attack.model.cpu(), attack.history
            except InputError as error:  # all ranks end with it
                own[name] = error
        wait_for_every_rank(trainer)
        for name, learnt in chain.from_iterable(part.items() for part in from_every_rank(trainer, own)):
            if isinstance(learnt, InputError):
                raise learnt
            net, self.attacks[name].history = learnt
            self.attacks[name].model = net.to(images.device)

    def _loader(self, trainer: Trainer) -> DataLoader:
        make = DataFacts(trainer.datamodule).calibration_dataloader
        loader = None if make is None else make()
        if not isinstance(loader, DataLoader):
            raise InputError(
                f"SubstituteAttack {', '.join(self.attacks)} begins with images of the attacker's own, and the "
                "datamodule has no calibration_dataloader: give it one, or call fit(oracle, seed_images, num_classes)"
            )
        return loader
