"""Fooling images: what a classifier is sure of and nobody recognises. ``fooling(model, image_shape) -> FoolingSet``."""

from lightning_adv.fooling.cppn import CPPNGenomes, FoolingCPPN
from lightning_adv.fooling.evolution import FoolingEvolution, MapElites
from lightning_adv.fooling.fooling import Fooling, FoolingSet
from lightning_adv.fooling.gradient import FoolingGradient

__all__ = [
    "CPPNGenomes",
    "Fooling",
    "FoolingCPPN",
    "FoolingEvolution",
    "FoolingGradient",
    "FoolingSet",
    "MapElites",
]
