"""Victims: classifiers of other learning techniques as black boxes, and what asking them costs."""

from lightning_adv.victims.classical import (
    DecisionTreeVictim,
    GradientBoostingVictim,
    RandomForestVictim,
    RBFSVMVictim,
)
from lightning_adv.victims.decision_tree_attack import DecisionTreeAttack
from lightning_adv.victims.ensemble import EnsembleVictim
from lightning_adv.victims.linear import LinearSVMVictim, LogisticRegressionVictim
from lightning_adv.victims.neighbours import NearestNeighboursVictim, SoftNearestNeighbours
from lightning_adv.victims.queries import CountedOracle, QueryBudgetExceeded
from lightning_adv.victims.victim import Victim

__all__ = [
    "CountedOracle",
    "DecisionTreeAttack",
    "DecisionTreeVictim",
    "EnsembleVictim",
    "GradientBoostingVictim",
    "LinearSVMVictim",
    "LogisticRegressionVictim",
    "NearestNeighboursVictim",
    "QueryBudgetExceeded",
    "RBFSVMVictim",
    "RandomForestVictim",
    "SoftNearestNeighbours",
    "Victim",
]
