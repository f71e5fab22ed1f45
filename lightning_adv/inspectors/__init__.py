"""Inspectors look for a backdoor in a trained model. ``inspector(model, images) -> InspectionReport``."""

from lightning_adv.inspectors.bti_dbf import BTIDBF
from lightning_adv.inspectors.deep_inspect import DeepInspect
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.largest import find_largest
from lightning_adv.inspectors.mm_bd import MMBD
from lightning_adv.inspectors.neural_cleanse import NeuralCleanse
from lightning_adv.inspectors.outliers import Outliers, anomaly_indices, find_outliers
from lightning_adv.inspectors.repeated import Repeated
from lightning_adv.inspectors.report import ClassTrigger, InspectionReport, Search
from lightning_adv.inspectors.second_look import SecondLook, compare, second_look

__all__ = [
    "BTIDBF",
    "MMBD",
    "ClassTrigger",
    "DeepInspect",
    "InspectionReport",
    "Inspector",
    "NeuralCleanse",
    "Outliers",
    "Repeated",
    "Search",
    "SecondLook",
    "anomaly_indices",
    "compare",
    "find_largest",
    "find_outliers",
    "second_look",
]
