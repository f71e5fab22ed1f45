"""Backdoors: triggers, and which images of a training set carry them. ``trigger(x) -> x_triggered``."""

from lightning_adv.backdoors.blend import Blend
from lightning_adv.backdoors.bpp import BPP
from lightning_adv.backdoors.input_aware import InputAwareTrigger
from lightning_adv.backdoors.label_consistent import LabelConsistent
from lightning_adv.backdoors.low_frequency import LowFrequency
from lightning_adv.backdoors.masked_pattern import MaskedPattern
from lightning_adv.backdoors.narcissus import Narcissus, optimise_narcissus
from lightning_adv.backdoors.patch import Patch, Place
from lightning_adv.backdoors.perturbation import (
    AdditiveTrigger,
    StaticPerturbation,
    UniversalPerturbation,
    universal_perturbation,
)
from lightning_adv.backdoors.pieces import Pieces
from lightning_adv.backdoors.poison_plan import (
    PoisonedLabel,
    PoisonPlan,
    RateOf,
    Target,
    backdoor_labels,
    check_classes,
    check_rates,
    check_target,
)
from lightning_adv.backdoors.random_pattern import RandomPattern
from lightning_adv.backdoors.several import Several
from lightning_adv.backdoors.sig import SIG
from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger, Trigger
from lightning_adv.backdoors.trigger_file import SavedTriggers, load_triggers, save_triggers
from lightning_adv.backdoors.triggered import Triggered
from lightning_adv.backdoors.trojan import TrojanTrigger, optimise_trojan
from lightning_adv.backdoors.wanet import WaNet

__all__ = [
    "BPP",
    "SIG",
    "AdditiveTrigger",
    "Blend",
    "ImageShape",
    "InputAwareTrigger",
    "LabelConsistent",
    "LowFrequency",
    "MaskedPattern",
    "Narcissus",
    "Patch",
    "PatternTrigger",
    "Pieces",
    "Place",
    "PoisonPlan",
    "PoisonedLabel",
    "RandomPattern",
    "RateOf",
    "SavedTriggers",
    "Several",
    "StaticPerturbation",
    "Target",
    "Trigger",
    "Triggered",
    "TrojanTrigger",
    "UniversalPerturbation",
    "WaNet",
    "backdoor_labels",
    "check_classes",
    "check_rates",
    "check_target",
    "load_triggers",
    "optimise_narcissus",
    "optimise_trojan",
    "save_triggers",
    "universal_perturbation",
]
