"""What a classifier's answer must be: a row of at least two logits an image, for labels that count from 0."""

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["check_labels", "checked_logits", "label_range", "looks_like_probabilities", "refuse_labels"]

ROUNDING = 2e-3
"""Probabilities in half precision may miss 1 by so much."""


def checked_logits(answer: object, count: int) -> Tensor:
    """The answer to ``count`` images, if it is logits [N, K], K >= 2. Looks at the shape alone, which costs nothing.

    Raises:
        InputError: no tensor, not a row an image, or a single logit.
    """
    if not isinstance(answer, Tensor):
        inside = f" of {', '.join(map(str, list(answer)[:5]))}" if isinstance(answer, dict) else ""
        raise InputError(
            "the model's forward must map images [N, C, H, W] to logits [N, K], got a "
            f"{type(answer).__name__}{inside}; return the logits alone, or wrap the model"
        )
    shape = tuple(answer.shape)
    if shape in ((count,), (count, 1)) and (answer.is_floating_point() or len(shape) == 2):
        raise InputError(
            f"the model gives one logit an image (shape {shape}), and logits [N, K] have K >= 2: for two classes "
            "return torch.stack([torch.zeros_like(z), z], dim=1) of the flattened z"
        )
    if answer.dim() != 2 or len(answer) != count or shape[1] < 2:
        raise InputError(
            f"the model's forward must map {count} images [N, C, H, W] to as many rows of logits [N, K], K >= 2, "
            f"got shape {shape}"
        )
    return answer


def check_labels(label: Tensor, classes: int) -> None:
    """Refuse labels that the model has no logit for. One host sync.

    Args:
        label: [N], N >= 1.
        classes: logits of the model.

    Raises:
        InputError: a label outside [0, classes).
    """
    lowest, highest = torch.stack(torch.aminmax(label)).tolist()
    refuse_labels(lowest, highest, classes)


def label_range(label: Tensor) -> tuple[float, float] | None:
    """Least and greatest of labels [N] on the CPU; None on a device that would have to be waited for."""
    if label.device.type != "cpu" or label.is_floating_point() or not len(label):
        return None
    lowest, highest = torch.aminmax(label)
    return float(lowest), float(highest)


def refuse_labels(lowest: float, highest: float, classes: int) -> None:
    """:func:`check_labels` for the least and the greatest of them.

    Raises:
        InputError: one outside [0, classes).
    """
    if lowest < 0 or highest >= classes:
        wrong = int(lowest if lowest < 0 else highest)
        raise InputError(
            f"label {wrong} is outside [0, {classes}): the model has {classes} logits; labels count from 0"
        )


def looks_like_probabilities(logits: Tensor) -> bool:
    """Whether no entry [N, K] is negative and every row adds up to 1; rows of 0 and 1 alone are votes. One host sync.

    Example:
        >>> looks_like_probabilities(torch.tensor([[0.2, 0.8]])), looks_like_probabilities(torch.tensor([[0.2, 0.9]]))
        (True, False)
    """
    adds_up = (logits.float().sum(dim=1) - 1).abs() <= ROUNDING
    graded = (logits > 0) & (logits < 1)
    return bool((adds_up & (logits >= 0).all(dim=1)).all() & graded.any())
