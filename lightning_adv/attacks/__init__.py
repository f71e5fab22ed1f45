"""Attacks: images that a classifier gets wrong, within a budget. ``attack(model, x, y) -> x_adv``."""

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Ball, Norm, perturbation_norms
from lightning_adv.attacks.bim import BIM
from lightning_adv.attacks.fgsm import FGSM
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import DeviceNoise, Noise, SampleNoise
from lightning_adv.attacks.pgd import PGD
from lightning_adv.attacks.result import AttackResult
from lightning_adv.attacks.trace import Classifier, leaves_no_trace

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "Attack",
    "AttackResult",
    "Ball",
    "Classifier",
    "DeviceNoise",
    "Goal",
    "Noise",
    "Norm",
    "SampleNoise",
    "leaves_no_trace",
    "perturbation_norms",
]
