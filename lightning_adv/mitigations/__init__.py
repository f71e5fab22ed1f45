"""Mitigations take a backdoor out of a trained model. ``mitigation(model, images) -> MitigationReport``."""

from lightning_adv.mitigations.anp import ANP
from lightning_adv.mitigations.channels import Pruning, Tried, prune
from lightning_adv.mitigations.clp import CLP
from lightning_adv.mitigations.fine_pruning import FinePruning
from lightning_adv.mitigations.fine_tuning import FineTuning
from lightning_adv.mitigations.fst import FST
from lightning_adv.mitigations.ft_sam import FTSAM
from lightning_adv.mitigations.ibau import IBAU
from lightning_adv.mitigations.mitigation import Mitigation, MitigationReport, Repair
from lightning_adv.mitigations.nad import NAD
from lightning_adv.mitigations.retuning import Retuning
from lightning_adv.mitigations.unlearning import NeuralCleanseUnlearning

__all__ = [
    "ANP",
    "CLP",
    "FST",
    "FTSAM",
    "IBAU",
    "NAD",
    "FinePruning",
    "FineTuning",
    "Mitigation",
    "MitigationReport",
    "NeuralCleanseUnlearning",
    "Pruning",
    "Repair",
    "Retuning",
    "Tried",
    "prune",
]
