"""What a gradient attack raises: per-sample losses of logits, all in float32.

Each takes ``(logits [N, K], y, target)``: ``y`` are labels [N] or probabilities [N, K], ``target`` classes [N] to reach
or None. A higher value is nearer to the attacker's goal.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AttackLoss", "cross_entropy", "dlr", "margin"]

AttackLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

_SMALL = 1e-12


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Cross-entropy of the label, or minus that of the target, [N]."""
    if target is None:
        return F.cross_entropy(logits, y, reduction="none")
    return -F.cross_entropy(logits, target, reduction="none")


def margin(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Best other logit minus the label's, or the target's minus the best other, [N]: above 0 at the attacker's goal."""
    aim = y if target is None else target
    own = logits.gather(1, aim[:, None]).squeeze(1)
    others = logits.scatter(1, aim[:, None], -torch.inf).amax(dim=1)
    return others - own if target is None else own - others


def dlr(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Difference of logits ratio (Croce and Hein, 2020), [N]: the margin over the spread of the logits.

    -(z_y - max_{i != y} z_i) / (z_(1) - z_(3)), with a target -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2). The ratio
    does not change with the scale of the logits. It needs 3 classes, targeted 4; with fewer the spread leaves out what
    is not there, and with 2 classes the plain margin remains.
    """
    ordered = logits.sort(dim=1, descending=True).values
    classes = logits.shape[1]
    own = logits.gather(1, y[:, None]).squeeze(1)
    if target is None:
        gain = margin(logits, y, None)
        spread = ordered[:, 0] - ordered[:, 2] if classes >= 3 else torch.ones_like(own)
    else:
        gain = logits.gather(1, target[:, None]).squeeze(1) - own
        if classes >= 4:
            spread = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
        else:
            spread = ordered[:, 0] - ordered[:, 2] if classes == 3 else torch.ones_like(own)
    return gain / (spread + _SMALL)
