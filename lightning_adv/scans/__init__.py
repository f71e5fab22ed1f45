"""Scans of training images for poisoned ones: ``scan(model, images) -> ScanReport``."""

from lightning_adv.scans.activation_clustering import ActivationClustering
from lightning_adv.scans.beatrix import Beatrix
from lightning_adv.scans.lowest_loss import LowestLoss
from lightning_adv.scans.report import ScannedClass, ScanReport
from lightning_adv.scans.scan import ClassFinding, Scan, ScanEvidence
from lightning_adv.scans.spectral_signatures import SpectralSignatures
from lightning_adv.scans.statistical_contamination import SCAn
from lightning_adv.scans.strip_scan import StripScan

__all__ = [
    "ActivationClustering",
    "Beatrix",
    "ClassFinding",
    "LowestLoss",
    "SCAn",
    "Scan",
    "ScanEvidence",
    "ScanReport",
    "ScannedClass",
    "SpectralSignatures",
    "StripScan",
]
