"""Purifiers: images cleaned before they are classified. ``purifier(x) -> x_hat``."""

from lightning_adv.attacks.noise import content_index
from lightning_adv.purifiers.bit_depth import BitDepth
from lightning_adv.purifiers.captions import Captions
from lightning_adv.purifiers.composition import Randomized, Sequential
from lightning_adv.purifiers.diffusion import Diffusion
from lightning_adv.purifiers.fingerprint import fingerprint
from lightning_adv.purifiers.gaussian_blur import GaussianBlur
from lightning_adv.purifiers.generator import DiffusionGenerator
from lightning_adv.purifiers.jpeg import JPEG, DifferentiableJPEG
from lightning_adv.purifiers.kmeans_quantization import KMeansQuantization
from lightning_adv.purifiers.language_guided_diffusion import LanguageGuidedDiffusion
from lightning_adv.purifiers.median_filter import MedianFilter
from lightning_adv.purifiers.prompts import ConstantPrompt, PredictedClass, Prompter
from lightning_adv.purifiers.purified_classifier import PurifiedClassifier
from lightning_adv.purifiers.purifier import Purifier
from lightning_adv.purifiers.threat_model import ThreatModel, as_threat_models
from lightning_adv.purifiers.total_variation import TotalVariation
from lightning_adv.purifiers.vqvae import VQVAE

__all__ = [
    "JPEG",
    "VQVAE",
    "BitDepth",
    "Captions",
    "ConstantPrompt",
    "DifferentiableJPEG",
    "Diffusion",
    "DiffusionGenerator",
    "GaussianBlur",
    "KMeansQuantization",
    "LanguageGuidedDiffusion",
    "MedianFilter",
    "PredictedClass",
    "Prompter",
    "PurifiedClassifier",
    "Purifier",
    "Randomized",
    "Sequential",
    "ThreatModel",
    "TotalVariation",
    "as_threat_models",
    "content_index",
    "fingerprint",
]
