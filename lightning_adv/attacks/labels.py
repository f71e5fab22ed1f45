"""Labels in one form wherever they enter: int64, whatever whole numbers they came as."""

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["as_labels", "as_truth", "most_likely", "refuse_no_distributions"]

ROUNDING = 1e-3

WHOLE = frozenset(
    {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64}
)


def as_labels(label: Tensor, count: int, what: str = "labels") -> Tensor:
    """[N] int64 of N labels of any integer type.

    Args:
        label: [N].
        count: N, the number of images.
        what: the message begins with.

    Raises:
        InputError: another shape; floats, which would be cut off, or booleans.

    Example:
        >>> as_labels(torch.tensor([3, 1], dtype=torch.uint8), 2)
        tensor([3, 1])
    """
    if not isinstance(label, Tensor) or label.shape != (count,) or label.dtype not in WHOLE:
        got = f"{label.dtype} of shape {tuple(label.shape)}" if isinstance(label, Tensor) else type(label).__name__
        raise InputError(f"{what} must be {count} integers, one an image, got {got}; convert them, e.g. label.long()")
    return label.long()


def as_truth(label: Tensor, count: int) -> Tensor:
    """What a training step learns: labels [N] int64, or a distribution over the classes for each image [N, K] float32.

    Args:
        label: [N] of any integer type, or [N, K] probabilities, as mixup and label smoothing in a loader make them.
        count: N, the number of images.

    Raises:
        InputError: neither.

    Example:
        >>> as_truth(torch.tensor([[0.25, 0.75]]).double(), 1)
        tensor([[0.2500, 0.7500]])
    """
    if isinstance(label, Tensor) and label.dim() == 2 and len(label) == count and label.is_floating_point():
        return label.float()
    return as_labels(label, count)


def refuse_no_distributions(truth: Tensor) -> None:
    """Refuse rows [N, K] that are no probabilities; classes [N] pass. One host sync.

    Raises:
        InputError: a row with a negative entry, or that does not add up to 1.
    """
    if truth.dim() == 2 and not bool(((truth >= 0).all(dim=1) & ((truth.sum(dim=1) - 1).abs() < ROUNDING)).all()):
        raise InputError(
            f"labels of shape {tuple(truth.shape)} must be probabilities, rows that sum to 1 without a negative; "
            "give integer labels [N] instead"
        )


def most_likely(truth: Tensor) -> Tensor:
    """[N] int64 the class of each image: its label, or the likeliest of its distribution.

    Example:
        >>> most_likely(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
        tensor([1, 0])
    """
    return truth if truth.dim() == 1 else truth.argmax(dim=1)
