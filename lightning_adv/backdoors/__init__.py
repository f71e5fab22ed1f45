"""Backdoors: triggers, and which images of a training set carry them. ``trigger(x) -> x_triggered``."""

from lightning_adv.backdoors.masked_pattern import MaskedPattern, SavedTriggers, load_triggers, save_triggers
from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger, Trigger

__all__ = [
    "ImageShape",
    "MaskedPattern",
    "PatternTrigger",
    "SavedTriggers",
    "Trigger",
    "load_triggers",
    "save_triggers",
]
