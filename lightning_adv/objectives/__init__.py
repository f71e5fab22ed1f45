"""Training objectives: ``objective(model, x, y) -> loss, logits``."""

from lightning_adv.objectives.abl import ABL, GradientAscent
from lightning_adv.objectives.adversarial_training import AdversarialTraining
from lightning_adv.objectives.attacked import AttackedObjective
from lightning_adv.objectives.awp import AWP
from lightning_adv.objectives.cross_entropy import CrossEntropy
from lightning_adv.objectives.eat import EAT
from lightning_adv.objectives.fast import NFGSM, FastAdversarialTraining
from lightning_adv.objectives.free import FreeAdversarialTraining
from lightning_adv.objectives.grad_align import GradAlign
from lightning_adv.objectives.hat import HAT
from lightning_adv.objectives.ikl import IKL
from lightning_adv.objectives.input_aware import InputAware
from lightning_adv.objectives.lse import LSE
from lightning_adv.objectives.mart import MART
from lightning_adv.objectives.objective import Objective
from lightning_adv.objectives.trades import TRADES

__all__ = [
    "ABL",
    "AWP",
    "EAT",
    "HAT",
    "IKL",
    "LSE",
    "MART",
    "NFGSM",
    "TRADES",
    "AdversarialTraining",
    "AttackedObjective",
    "CrossEntropy",
    "FastAdversarialTraining",
    "FreeAdversarialTraining",
    "GradAlign",
    "GradientAscent",
    "InputAware",
    "Objective",
]
