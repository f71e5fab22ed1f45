"""What a model says of images, without a gradient."""

import torch
from torch import Tensor, nn

from lightning_adv.asking import check_labels, logits_of

__all__ = ["check_labels", "clean_logits", "nan_warnings"]


def clean_logits(model: nn.Module, image: Tensor) -> Tensor:
    """Logits [N, K] in float32 of images [N, C, H, W].

    Raises:
        InputError: the model's forward gives something else.
    """
    with torch.no_grad():
        return logits_of(model, image)


def nan_warnings(count: int, samples: int, where: str = "") -> list[str]:
    """The sentence that a report owes its reader where logits were NaN; none where they were not.

    Args:
        count: images with NaN logits.
        samples: all images.
        where: under which condition, e.g. the name of an attack.

    Example:
        >>> nan_warnings(12, 500), nan_warnings(0, 500)
        (['12 of 500 images have NaN logits: they count as wrong'], [])
    """
    named = f"{where}: " if where else ""
    return [f"{named}{count} of {samples} images have NaN logits: they count as wrong"] if count else []
