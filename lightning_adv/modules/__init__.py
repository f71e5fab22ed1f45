"""LightningModules that train classifiers, and the networks of purifiers."""

from lightning_adv.modules.captioner import CaptionerModule
from lightning_adv.modules.classifier import ClassifierModule
from lightning_adv.modules.diffusion import DiffusionModule
from lightning_adv.modules.latent_diffusion import LatentDiffusionModule
from lightning_adv.modules.schedules import WarmUp
from lightning_adv.modules.stored import load_classifier
from lightning_adv.modules.vqvae import VQVAEModule

__all__ = [
    "CaptionerModule",
    "ClassifierModule",
    "DiffusionModule",
    "LatentDiffusionModule",
    "VQVAEModule",
    "WarmUp",
    "load_classifier",
]
