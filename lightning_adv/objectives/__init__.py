"""Training objectives: ``objective(model, x, y) -> loss, logits``."""

from lightning_adv.objectives.abl import ABL, GradientAscent
from lightning_adv.objectives.adversarial_training import AdversarialTraining
from lightning_adv.objectives.attacked import AttackedObjective
from lightning_adv.objectives.awp import AWP
from lightning_adv.objectives.cross_entropy import CrossEntropy
from lightning_adv.objectives.fast import FastAdversarialTraining
from lightning_adv.objectives.free import FreeAdversarialTraining
from lightning_adv.objectives.input_aware import InputAware
from lightning_adv.objectives.mart import MART
from lightning_adv.objectives.objective import Objective
from lightning_adv.objectives.trades import TRADES

__all__ = [
    "ABL",
    "AWP",
    "MART",
    "TRADES",
    "AdversarialTraining",
    "AttackedObjective",
    "CrossEntropy",
    "FastAdversarialTraining",
    "FreeAdversarialTraining",
    "GradientAscent",
    "InputAware",
    "Objective",
]
