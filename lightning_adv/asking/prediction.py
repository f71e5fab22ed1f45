"""Which class a row of logits names, everywhere by the same rule: a row that holds a NaN names none."""

import torch
from torch import Tensor

__all__ = ["NO_CLASS", "confident", "is_right", "predicted"]

NO_CLASS = -1
"""What is predicted where a logit is NaN: equal to no label and to no target."""


def predicted(logits: Tensor) -> Tensor:
    """The class of highest logit, :data:`NO_CLASS` for a row that holds a NaN; of ties the first.

    Args:
        logits: [..., K].

    Returns:
        [...] int64.

    Example:
        >>> predicted(torch.tensor([[0.0, 2.0], [torch.nan, 1.0]]))
        tensor([ 1, -1])
    """
    top, said = logits.max(dim=-1)  # NaN where one of them is
    return torch.where(top.isnan(), NO_CLASS, said)


def is_right(logits: Tensor, label: int | Tensor) -> Tensor:
    """[...] bool, whether logits [..., K] name the class ``label``, one for all or [...].

    Example:
        >>> is_right(torch.tensor([[0.0, 2.0], [torch.nan, 1.0]]), 1)
        tensor([ True, False])
    """
    return predicted(logits) == label


def confident(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The classes that logits [..., K] name, and their probabilities; NaN where there is no class.

    Example:
        >>> said, confidence = confident(torch.tensor([[0.0, 0.0], [torch.nan, 1.0]]))
        >>> said.tolist(), confidence.tolist()
        ([0, -1], [0.5, nan])
    """
    finite = logits.nan_to_num(nan=torch.nan)  # infinite ones would make the softmax NaN
    return predicted(logits), finite.softmax(dim=-1).amax(dim=-1)
