"""What the image transformations experiment trains, attacks and measures."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.classifiers import CIFAR10_NET
from experiments.image_transformations.foolbox2 import SearchedFGSM, SearchedPGD
from lightning_adv.attacks import FGSM, PGD, Attack, CarliniWagner, DeepFool
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule
from lightning_adv.purifiers import (
    JPEG,
    VQVAE,
    BitDepth,
    GaussianBlur,
    KMeansQuantization,
    MedianFilter,
    Purifier,
    TotalVariation,
)

__all__ = ["PAPER", "SETTINGS", "Setting", "attacks", "purifiers", "sweeps"]


@dataclass(frozen=True)
class Setting:
    """A data set and what is trained on it.

    Args:
        images: the data set.
        colours: of K-means.
        classifier: arguments of ``train.py fit``, or a network that comes with the package.
        vqvae: arguments of ``train.py fit``.
        noises: of the inputs of the VQ-VAEs.
        informed: images that the attacks which know the purifier are made on.
        costly: of them, those for attacks that average over draws or go through a network.
    """

    images: Callable[..., ImageDataModule]
    colours: int
    classifier: tuple[str, ...] | str
    vqvae: tuple[str, ...]
    noises: tuple[float, ...] = (0.0,)
    informed: int = 1000
    costly: int = 200  # hours on two cores even so

    def trained(self, of: str = "classifier") -> str:
        """How long a network is trained, in words."""
        how = getattr(self, of)
        return "with the package" if isinstance(how, str) else f"{_value(how, '--trainer.max_epochs')} epochs"

    @property
    def network(self) -> str:
        """The classifier's name, or its backbone with its options."""
        if isinstance(self.classifier, str):
            return self.classifier
        options = json.loads(_value(self.classifier, "--model.backbone_options") or "{}")
        return ", ".join([_value(self.classifier, "--model.backbone"), *(f"{k} {v}" for k, v in options.items())])


SETTINGS = {
    "MNIST": Setting(
        MNIST,
        16,
        "zoo/mnist_standard",
        ("--model.channels=[16,32]", "--model.lr=0.001", "--trainer.max_epochs=1"),
    ),
    "CIFAR10": Setting(
        CIFAR10,
        50,
        CIFAR10_NET,
        ("--model.channels=[16,32]", "--model.lr=0.001", "--trainer.max_epochs=2"),
        informed=200,
        costly=50,
    ),
}

_VQVAE = ("--model.channels=[256,256,256]", "--model.latent_channels=256", "--model.codes=512", "--model.beta=1")
_VQVAE = (*_VQVAE, "--model.lr=0.0002", "--trainer.max_epochs=100")
_SGD = "--model.optimizer=torch.optim.SGD"

PAPER = {
    "MNIST": replace(
        SETTINGS["MNIST"],
        classifier=(
            "--model.backbone=mnist_cnn",
            '--model.backbone_options={"width": 20, "hidden": 500, "kernel_size": 5, "pooling": true}',
            *(_SGD, "--model.optimizer.lr=0.01", "--model.optimizer.momentum=0.5"),
            *("--data.batch_size=64", "--trainer.max_epochs=10"),
        ),
        vqvae=_VQVAE,
        noises=(0.0, 0.25, 0.75),
    ),
    "CIFAR10": replace(
        SETTINGS["CIFAR10"],
        classifier=(
            *("--model.backbone=densenet_cifar", "--model.channels_last=true", "--data.augment=CropFlip"),
            *(_SGD, "--model.optimizer.lr=0.1", "--model.optimizer.momentum=0.9"),
            *("--model.optimizer.weight_decay=5e-4", "--model.lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR"),
            *("--model.lr_scheduler.T_max=150", "--trainer.max_epochs=150", "--trainer.precision=bf16-mixed"),
        ),
        vqvae=_VQVAE,
        noises=(0.0, 0.25, 0.75),
    ),
}
"""The paper's networks and how long it trains them, for a GPU."""


def attacks(quick: bool, informed: bool = False) -> dict[str, Attack]:
    """The paper's four, with the budgets of Foolbox 2; then FGSM and PGD with fixed ones.

    An attacker who knows the purifier has no reason to stop early or to look for the nearest image: C&W then searches
    two constants, for it is success that counts.
    """
    steps = 10 if quick else 40
    if informed:
        descent = {"steps": 40, "lr": 0.1} if quick else {"steps": 100, "lr": 0.05}
        descents = CarliniWagner(initial_const=10, binary_search_steps=2, **descent)
        budgets = {"deepfool": DeepFool(), "fgsm_at_0.3": FGSM(0.3)}
        return {"cw": descents} | budgets | {f"pgd_at_{eps}": PGD(eps, steps=steps) for eps in (0.3, 0.1)}
    return {
        "fgsm": SearchedFGSM(),
        "pgd": SearchedPGD(),
        "cw": CarliniWagner(100 if quick else 1000, initial_const=0.01, binary_search_steps=5, lr=0.005),
        "deepfool": DeepFool(),
        "fgsm_at_0.3": FGSM(0.3),
        "pgd_at_0.3": PGD(0.3, steps=steps),
        "pgd_at_0.1": PGD(0.1, steps=steps),
    }


def purifiers(setting: Setting, vqvaes: dict[str, Path]) -> dict[str, Purifier]:
    """The paper's, with its parameters, and feature squeezing."""
    return {
        "jpeg": JPEG(90),
        "gaussian": GaussianBlur(0, 0.3),
        "kmeans": KMeansQuantization(setting.colours),
        "tv": TotalVariation(),
        **{f"vqvae_{noise}": VQVAE(str(folder)) for noise, folder in vqvaes.items()},
        "median": MedianFilter(3),
        "bits": BitDepth(3),
    }


def sweeps(vqvaes: dict[str, Path]) -> dict[str, dict[str, Purifier]]:
    """One parameter at a time."""
    return {
        "JPEG quality": {str(quality): JPEG(quality) for quality in (10, 25, 50, 75, 90, 100)},
        "K-means colours": {str(colours): KMeansQuantization(colours) for colours in (2, 4, 8, 16, 27)},
        "TV weight": {str(weight): TotalVariation(weight=weight) for weight in (0.01, 0.03, 0.1, 0.3)},
        **({"VQ-VAE noise": {noise: VQVAE(str(folder)) for noise, folder in vqvaes.items()}} if vqvaes else {}),
    }


def _value(arguments: tuple[str, ...], name: str) -> str | None:
    """What an option of the command line is given."""
    return dict(each.split("=", 1) for each in arguments).get(name)
