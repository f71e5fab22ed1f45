"""Mitigations take a backdoor out of a trained model. ``mitigation(model, images) -> MitigationReport``."""

from lightning_adv.mitigations.fine_pruning import FinePruning
from lightning_adv.mitigations.mitigation import Mitigation, MitigationReport, Repair
from lightning_adv.mitigations.unlearning import NeuralCleanseUnlearning

__all__ = ["FinePruning", "Mitigation", "MitigationReport", "NeuralCleanseUnlearning", "Repair"]
