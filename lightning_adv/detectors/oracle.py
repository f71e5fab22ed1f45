"""What a detector may know of the victim: its logits, or its labels and nothing else."""

from lightning_adv.attacks.oracle import LabelOracle, predicted_labels

__all__ = ["LabelOracle", "predicted_labels"]
