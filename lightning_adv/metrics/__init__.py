"""Metrics that add up over shards (torchmetrics)."""

from lightning_adv.metrics.attack_tally import AttackTally, CleanTally

__all__ = ["AttackTally", "CleanTally"]
