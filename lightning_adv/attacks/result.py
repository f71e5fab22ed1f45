"""What an evaluated attack leaves: images, their logits and how they came about."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["AttackResult"]


@dataclass(frozen=True)
class AttackResult:
    """The best adversarial image found for each sample.

    Args:
        images: [N, C, H, W] float32 in [0, 1]; among successes, and among failures, the one of highest loss.
        logits: [N, K] float32 logits of ``images``: no second forward is needed to judge them.
        success: [N] bool, prediction differs from the label (or equals the target).
        restart: [N] int64, number of the restart that first succeeded, -1 without success.
        zero_gradient: [N] bool, some gradient on the way was exactly zero: a sign of masked gradients.
    """

    images: Tensor
    logits: Tensor
    success: Tensor
    restart: Tensor
    zero_gradient: Tensor
