"""Detectors: which images are not what they seem. ``detector.score(model, x)``, higher is more suspicious."""

from lightning_adv.attacks.oracle import LabelOracle, predicted_labels
from lightning_adv.detectors.detector import Detector, Evidence, LabelledImages, Verdict
from lightning_adv.detectors.ensemble import DetectorEnsemble, LogisticRegression
from lightning_adv.detectors.ibd_psc import IBDPSC
from lightning_adv.detectors.kde_confidence import KDEConfidence
from lightning_adv.detectors.kernel_density import KernelDensity
from lightning_adv.detectors.label_change_rate import LabelChangeRate
from lightning_adv.detectors.local_intrinsic_dimensionality import LocalIntrinsicDimensionality
from lightning_adv.detectors.model_uncertainty import ModelUncertainty
from lightning_adv.detectors.mutation import GaussianMutation, Mutation, PaperMutation, UniformMutation
from lightning_adv.detectors.runtime_monitor import RuntimeMonitor
from lightning_adv.detectors.scale_up import ScaleUp
from lightning_adv.detectors.sprt import SPRT, FixedSizeTest
from lightning_adv.detectors.strip import STRIP
from lightning_adv.detectors.structured_mutation import AffineMutation, SmoothMutation

__all__ = [
    "IBDPSC",
    "SPRT",
    "STRIP",
    "AffineMutation",
    "Detector",
    "DetectorEnsemble",
    "Evidence",
    "FixedSizeTest",
    "GaussianMutation",
    "KDEConfidence",
    "KernelDensity",
    "LabelChangeRate",
    "LabelOracle",
    "LabelledImages",
    "LocalIntrinsicDimensionality",
    "LogisticRegression",
    "ModelUncertainty",
    "Mutation",
    "PaperMutation",
    "RuntimeMonitor",
    "ScaleUp",
    "SmoothMutation",
    "UniformMutation",
    "Verdict",
    "predicted_labels",
]
