"""All that training has, made small: shuffling, augmentation, dropout, PGD with random starts, a schedule."""

from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import StepLR

from lightning_adv.attacks import PGD
from lightning_adv.callbacks import LastCheckpoint
from lightning_adv.data import CropFlip, ImageDataModule, InMemoryImages, Mixing, Sources
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import AdversarialTraining, Objective
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, images


class SmallData(ImageDataModule):
    """The strangers' images with this project's loaders: 44 to train, augmented and shuffled."""

    num_classes, in_channels, image_size = CLASSES, CHANNELS, (SIZE, SIZE)
    mean, std = (0.5,) * CHANNELS, (0.25,) * CHANNELS
    class_names = ["a", "b", "c", "d"]  # noqa: RUF012

    def __init__(self, batch_size: int = 8, seed: int = 0, mix: Mixing | None = None) -> None:
        augment = CropFlip(padding=1, flip=False)
        super().__init__(batch_size=batch_size, val_size=12, calibration_size=8, augment=augment, mix=mix, seed=seed)

    def load(self) -> Sources:
        train, test = (InMemoryImages(*images(count, seed).tensors) for count, seed in ((64, 1), (24, 2)))
        return Sources(train=train, test=test)


def classifier(objective: Objective | None = None, **options: object) -> ClassifierModule:
    """A small convolutional net with dropout, trained on PGD unless told otherwise."""
    torch.manual_seed(0)
    arguments = {
        "backbone": "mnist_cnn",
        "backbone_options": {"width": 4, "hidden": 16, "drop_rate": 0.2},
        "objective": objective or AdversarialTraining(PGD(eps=0.06, steps=2), warmup_epochs=1.5),
        "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "lr_scheduler": partial(StepLR, step_size=1, gamma=0.5),
        "num_classes": CLASSES,
        "in_channels": CHANNELS,
        "image_size": (SIZE, SIZE),
        "mean": (0.5,) * CHANNELS,
        "std": (0.25,) * CHANNELS,
    }
    return ClassifierModule(**(arguments | options))


class EveryCheckpoint(LastCheckpoint):
    """Keeps a copy of each state that a kill could have left."""

    def __init__(self, folder: Path, every_n_steps: int = 1) -> None:
        super().__init__(every_n_steps, str(folder))
        self.copies: list[Path] = []

    def _save(self, trainer) -> None:
        super()._save(trainer)
        self.copies.append(self.path.with_name(f"{len(self.copies)}.ckpt"))
        self.path.rename(self.copies[-1])
