"""LightningModules that train classifiers, and the networks of purifiers."""

from lightning_adv.modules.classifier import ClassifierModule
from lightning_adv.modules.diffusion import DiffusionModule
from lightning_adv.modules.vqvae import VQVAEModule

__all__ = ["ClassifierModule", "DiffusionModule", "VQVAEModule"]
