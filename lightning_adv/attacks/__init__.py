"""Attacks: images that a classifier gets wrong, within a budget. ``attack(model, x, y) -> x_adv``."""

from lightning_adv.asking import Classifier
from lightning_adv.attacks.apgd import APGD
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.autoattack import AutoAttack
from lightning_adv.attacks.ball import Ball, Norm, perturbation_norms
from lightning_adv.attacks.bim import BIM
from lightning_adv.attacks.bpda import BPDA
from lightning_adv.attacks.carlini_wagner import CarliniWagner
from lightning_adv.attacks.ddn import DDN
from lightning_adv.attacks.deepfool import DeepFool
from lightning_adv.attacks.eot import EOT
from lightning_adv.attacks.fab import FAB
from lightning_adv.attacks.fgsm import FGSM
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.hyperplane import HyperplaneAttack
from lightning_adv.attacks.jsma import JSMA
from lightning_adv.attacks.least_likely import LeastLikely
from lightning_adv.attacks.mifgsm import MIFGSM
from lightning_adv.attacks.nifgsm import NIFGSM
from lightning_adv.attacks.noise import DeviceNoise, Noise, SampleNoise
from lightning_adv.attacks.oracle import LabelOracle, predicted_labels
from lightning_adv.attacks.pgd import PGD
from lightning_adv.attacks.physical import PhysicalWorld
from lightning_adv.attacks.result import AttackResult, Stage
from lightning_adv.attacks.search_low import SearchLow
from lightning_adv.attacks.square import Square
from lightning_adv.attacks.substitute import SubstituteAttack, SubstituteRound
from lightning_adv.attacks.targeted import Targeted
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.attacks.worst_of import WorstOf

__all__ = [
    "APGD",
    "BIM",
    "BPDA",
    "DDN",
    "EOT",
    "FAB",
    "FGSM",
    "JSMA",
    "MIFGSM",
    "NIFGSM",
    "PGD",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "Ball",
    "CarliniWagner",
    "Classifier",
    "DeepFool",
    "DeviceNoise",
    "Goal",
    "HyperplaneAttack",
    "LabelOracle",
    "LeastLikely",
    "Noise",
    "Norm",
    "PhysicalWorld",
    "SampleNoise",
    "SearchLow",
    "Square",
    "Stage",
    "SubstituteAttack",
    "SubstituteRound",
    "Targeted",
    "WorstOf",
    "leaves_no_trace",
    "perturbation_norms",
    "predicted_labels",
]
