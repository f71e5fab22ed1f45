"""LightningModules that train classifiers."""

from lightning_adv.modules.classifier import ClassifierModule

__all__ = ["ClassifierModule"]
