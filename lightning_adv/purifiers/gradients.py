"""Exact gradients through many steps in the memory of one, and of many images in the memory of a few."""

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["MEMORY", "fitting", "in_parts", "recomputed"]

MEMORY = 512
"""MiB that a purifier's graph may take by default: a classifier and its gradients need the rest."""

HEAP = 5
"""MiB of a process for each that a graph holds on a CPU: glibc seldom finds a freed block again for an aligned one."""


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


def fitting(x: Tensor, kept: float, memory: float) -> int:
    """How many images like these [N, C, H, W] have a graph of at most ``memory`` MiB; at least 1.

    Args:
        x: images; one of them tells the size.
        kept: float32 numbers that a backward pass keeps for each number of an image.
        memory: in MiB.

    Example:
        >>> fitting(torch.zeros(1, 3, 224, 224), kept=60, memory=512)
        2
    """
    taken = kept * (HEAP if x.device.type == "cpu" else 1)
    return max(1, int(memory * 2**20 / (4 * taken * x[0].numel())))


def in_parts(step: Callable[..., Tensor], size: int, *arguments: Tensor) -> Tensor:
    """``step(*arguments)`` for ``size`` rows at a time, of which a backward pass holds the graph of one part at a time.

    ``step`` must treat rows alone, and otherwise be as in :func:`recomputed`.

    Args:
        step: tensors [N, ...] to a tensor [N, ...].
        size: rows of a part.
        arguments: its tensors.
    """
    if len(arguments[0]) <= size:
        return step(*arguments)
    made = []
    for part in zip(*(each.split(size) for each in arguments), strict=True):
        made.append(recomputed(step, *part))
        _return_freed()
        if made[-1].requires_grad:
            made[-1].register_hook(_return_freed)  # before its backward pass, and so after that of another part
    return torch.cat(made)


def _return_freed(gradient: Tensor | None = None) -> None:
    """Return what is free to the system, so that the parts do not add up (see ``HEAP``)."""
    if _trim is not None:
        _trim(0)


def _found_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except AttributeError:  # another C library
        return None


_trim = _found_trim()
