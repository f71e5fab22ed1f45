"""Metrics that add up over shards (torchmetrics)."""

from lightning_adv.metrics.attack_tally import AttackTally, CleanTally
from lightning_adv.metrics.outcomes import (
    Destruction,
    Outcomes,
    class_ranks,
    destruction,
    outcomes,
    outcomes_of_predictions,
    similar_classes,
    top_k_errors,
)

__all__ = [
    "AttackTally",
    "CleanTally",
    "Destruction",
    "Outcomes",
    "class_ranks",
    "destruction",
    "outcomes",
    "outcomes_of_predictions",
    "similar_classes",
    "top_k_errors",
]
