"""Exact gradients through many steps in the memory of one."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]


def recomputed(step: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """``step(*arguments)``, whose intermediate values are computed again in the backward pass instead of being kept.

    ``step`` must be a function of its tensors alone: no random numbers, no loop variable from around it.

    Args:
        step: tensors to a tensor.
        arguments: its tensors.
    """
    if not (torch.is_grad_enabled() and any(each.requires_grad for each in arguments)):
        return step(*arguments)
    return checkpoint(step, *arguments, use_reentrant=False, preserve_rng_state=False)
