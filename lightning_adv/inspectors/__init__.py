"""Inspectors look for a backdoor in a trained model. ``inspector(model, images) -> InspectionReport``."""

from lightning_adv.inspectors.deep_inspect import DeepInspect
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.neural_cleanse import NeuralCleanse
from lightning_adv.inspectors.outliers import Outliers, anomaly_indices, find_outliers
from lightning_adv.inspectors.report import ClassTrigger, InspectionReport, Search

__all__ = [
    "ClassTrigger",
    "DeepInspect",
    "InspectionReport",
    "Inspector",
    "NeuralCleanse",
    "Outliers",
    "Search",
    "anomaly_indices",
    "find_outliers",
]
