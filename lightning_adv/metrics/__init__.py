"""What predictions amount to: pure functions of tensors."""

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
    "Destruction",
    "Outcomes",
    "class_ranks",
    "destruction",
    "outcomes",
    "outcomes_of_predictions",
    "similar_classes",
    "top_k_errors",
]
