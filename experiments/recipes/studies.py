"""The data sets, nets and budgets of the recipes experiment, and the recipes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lightning_adv.attacks import PGD
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule
from lightning_adv.objectives import (
    AWP,
    MART,
    TRADES,
    AdversarialTraining,
    CrossEntropy,
    FastAdversarialTraining,
    FreeAdversarialTraining,
    Objective,
)

__all__ = ["REPLAYS", "STUDIES", "Recipe", "Study", "recipes"]

REPLAYS = 4
"""Steps of free training on a batch."""


@dataclass(frozen=True)
class Study:
    """One data set with its net and budgets.

    Args:
        data: makes the data module.
        eps: Linf radius.
        l2: L2 radius.
        steps: of PGD in training.
        options: of the backbone ``mnist_cnn``.
        images: training images.
        epochs: of every recipe; free training replays and takes a ``REPLAYS``-th of them.
        warmup: epochs over which eps grows in every recipe but free training; with the whole eps from the start, PGD
            training of this net on CIFAR-10 ends in a constant answer (Madry et al. say so of small nets).
    """

    data: Callable[..., ImageDataModule]
    eps: float
    l2: float
    steps: int
    options: dict[str, int]
    images: int
    epochs: int
    warmup: float


STUDIES = {
    "MNIST": Study(MNIST, 0.1, 1.5, 10, {"width": 16, "hidden": 100}, 20_000, 8, warmup=0),
    "CIFAR-10": Study(CIFAR10, 8 / 255, 0.5, 5, {"width": 32, "hidden": 128}, 10_000, 8, warmup=2),
}


@dataclass(frozen=True)
class Recipe:
    """An objective, the norm it is judged in, and the passes of one step that its paper cannot do without.

    Args:
        objective: makes it.
        norm: of the AutoAttack.
        forwards: image passes of the training step, by the equation.
        backwards: the same.
    """

    objective: Callable[[], Objective]
    norm: str
    forwards: int
    backwards: int


def recipes(study: Study) -> dict[str, Recipe]:
    """Name to recipe; k steps of PGD are k forwards and k backwards, what follows is the loss's own."""
    k = study.steps
    pgd = partial(PGD, eps=study.eps, step_size=2.5 * study.eps / k, steps=k)
    kl = partial(PGD, eps=study.eps, step_size=2.5 * study.eps / k, steps=k, start="gaussian")
    l2 = partial(PGD, eps=study.l2, steps=k, norm="L2")
    warm = {"warmup_epochs": study.warmup}
    found = {
        "standard": Recipe(CrossEntropy, "Linf", 1, 1),
        "PGD": Recipe(lambda: AdversarialTraining(pgd(), **warm), "Linf", k + 1, k + 1),
        # the clean prediction in eval mode is one forward more, for it is not that of the loss
        "TRADES": Recipe(lambda: TRADES(kl(), beta=4.0, **warm), "Linf", k + 3, k + 2),
        "MART": Recipe(lambda: MART(kl(), beta=4.0, **warm), "Linf", k + 2, k + 2),
        "Fast (FGSM-RS)": Recipe(lambda: FastAdversarialTraining(study.eps, **warm), "Linf", 2, 2),
        "Free": Recipe(lambda: FreeAdversarialTraining(study.eps, replays=REPLAYS), "Linf", REPLAYS, REPLAYS),
        "PGD + AWP": Recipe(lambda: AWP(AdversarialTraining(pgd(), **warm), gamma=0.005), "Linf", k + 2, k + 2),
        "TRADES + AWP": Recipe(lambda: AWP(TRADES(kl(), beta=4.0, **warm), gamma=0.005), "Linf", k + 5, k + 4),
        "PGD, eps warm-up": Recipe(lambda: AdversarialTraining(pgd(), warmup_epochs=3), "Linf", k + 1, k + 1),
        "standard, L2": Recipe(CrossEntropy, "L2", 1, 1),
        "PGD, L2": Recipe(lambda: AdversarialTraining(l2(), **warm), "L2", k + 1, k + 1),
    }
    if study.warmup:
        del found["PGD, eps warm-up"]  # they all have it
    return found
