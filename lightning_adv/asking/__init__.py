"""Asking a classifier: the one forward, what its answer must be, and which class a row of logits names."""

from lightning_adv.asking.bfloat import InBfloat16
from lightning_adv.asking.contract import check_labels, looks_like_probabilities
from lightning_adv.asking.convolutions import convolved, quick_convolutions
from lightning_adv.asking.forward import NO_GRADIENT, Classifier, answer_of, logits_of, remarks
from lightning_adv.asking.modes import modes_of, switch_to_eval
from lightning_adv.asking.parts import asked_at_once, logits_in_parts, parts_of
from lightning_adv.asking.prediction import NO_CLASS, confident, is_right, predicted
from lightning_adv.asking.weights import at_weights, without_records

__all__ = [
    "NO_CLASS",
    "NO_GRADIENT",
    "Classifier",
    "InBfloat16",
    "answer_of",
    "asked_at_once",
    "at_weights",
    "check_labels",
    "confident",
    "convolved",
    "is_right",
    "logits_in_parts",
    "logits_of",
    "looks_like_probabilities",
    "modes_of",
    "parts_of",
    "predicted",
    "quick_convolutions",
    "remarks",
    "switch_to_eval",
    "without_records",
]
