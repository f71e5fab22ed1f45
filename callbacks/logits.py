"""What a model says of images, without a gradient."""

import torch
from torch import Tensor, nn

from lightning_adv.asking import check_labels, logits_of

__all__ = ["check_labels", "clean_logits"]


def clean_logits(model: nn.Module, image: Tensor) -> Tensor:
    """Logits [N, K] in float32 of images [N, C, H, W].

    Raises:
        InputError: the model's forward gives something else.
    """
    with torch.no_grad():
        return logits_of(model, image)
