"""What a model says of clean images, refused where it is no row of logits for each."""

import torch
from torch import Tensor, nn

from lightning_adv.attacks.trace import forward_float32
from lightning_adv.errors import InputError

__all__ = ["check_labels", "clean_logits"]


def clean_logits(model: nn.Module, image: Tensor) -> Tensor:
    """Logits [N, K] in float32 of images [N, C, H, W].

    Raises:
        InputError: the model's forward gives something else.
    """
    with torch.no_grad():
        logits = forward_float32(model, image)
    if logits.dim() != 2 or len(logits) != len(image):
        raise InputError(
            f"the model's forward must map {len(image)} images [N, C, H, W] to as many rows of logits [N, K], "
            f"got shape {tuple(logits.shape)}"
        )
    return logits


def check_labels(label: Tensor, classes: int) -> None:
    """Refuse labels that the model has no logit for.

    Raises:
        InputError: a label outside [0, classes).
    """
    lowest, highest = torch.stack(torch.aminmax(label)).tolist()  # one host sync
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise InputError(
            f"label {wrong} is outside [0, {classes}): the model has {classes} logits; labels count from 0"
        )
