"""Training objectives: ``objective(model, x, y) -> loss, logits``."""

from lightning_adv.objectives.adversarial_training import AdversarialTraining
from lightning_adv.objectives.cross_entropy import CrossEntropy
from lightning_adv.objectives.objective import Objective
from lightning_adv.objectives.trades import TRADES

__all__ = ["TRADES", "AdversarialTraining", "CrossEntropy", "Objective"]
