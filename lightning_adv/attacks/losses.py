"""What a gradient attack raises: per-sample losses of logits, all in float32.

Each takes ``(logits [N, K], y, target)``: ``y`` are labels [N] or probabilities [N, K], ``target`` classes [N] to reach
or None. A higher value is nearer to the attacker's goal.

A logit of -inf is a class that the model rules out: its probability is 0, and 0 log 0 = 0.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = [
    "AttackLoss",
    "cross_entropy",
    "divergence",
    "dlr",
    "expected_nll",
    "margin",
    "refuse_other_classes",
    "squared_error",
    "wrong_classes",
]

AttackLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

_SMALL = 1e-12


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Cross-entropy of the label, or minus that of the target, [N]."""
    if target is None:
        return F.cross_entropy(logits, y, reduction="none") if y.dim() == 1 else expected_nll(logits, y)
    return -F.cross_entropy(logits, target, reduction="none")


def expected_nll(logits: Tensor, p: Tensor) -> Tensor:
    """Cross-entropy -sum_k p_k log q_k [N] of distributions p [N, K] under the prediction q; classes of p_k = 0 add 0.

    Raises:
        InputError: other numbers of classes.

    Example:
        >>> expected_nll(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([[0.5, 0.5, 0.0]]))
        tensor([0.6931])
    """
    refuse_other_classes(p, logits)
    return -(p * logits.log_softmax(dim=1).masked_fill(p == 0, 0.0)).sum(dim=1)


def refuse_other_classes(p: Tensor, logits: Tensor) -> None:
    """Refuse probabilities [N, K] of another K than that of the logits.

    Raises:
        InputError: other numbers of classes.
    """
    if p.shape != logits.shape:
        raise InputError(f"probabilities of {p.shape[1]} classes for a model of {logits.shape[1]}: they must agree")


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(p || q) [N] of the predictions of two rows of logits [N, K], with gradients to both.

    Example:
        >>> divergence(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([[0.0, 0.0, -torch.inf]]))
        tensor([0.])
    """
    log_p, log_q = logits.log_softmax(dim=1), other.log_softmax(dim=1)
    ruled_out = log_p == -torch.inf
    return (log_p.exp() * (log_p.masked_fill(ruled_out, 0.0) - log_q.masked_fill(ruled_out, 0.0))).sum(dim=1)


def squared_error(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Squared distance [N] of the prediction to the label, as one-hot, or to probabilities y (Pang et al., 2022).

    Example:
        >>> squared_error(torch.zeros(1, 2), torch.tensor([0]), None)
        tensor([0.5000])
    """
    aim = y if target is None else target
    p = F.one_hot(aim, logits.shape[1]).to(logits) if aim.dim() == 1 else aim
    refuse_other_classes(p, logits)
    error = (logits.softmax(dim=1) - p).square().sum(dim=1)
    return error if target is None else -error


def margin(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Best other logit minus the label's, or the target's minus the best other, [N]: above 0 at the attacker's goal."""
    aim = y if target is None else target
    own = logits.gather(1, aim[:, None]).squeeze(1)
    others = logits.scatter(1, aim[:, None], -torch.inf).amax(dim=1)
    return others - own if target is None else own - others


def wrong_classes(logits: Tensor, label: Tensor) -> Tensor:
    """The other classes [N, K - 1] by their logits [N, K], the most likely first, those that the model rules out last.

    Example:
        >>> wrong_classes(torch.tensor([[0.0, -torch.inf, 3.0, 1.0]]), torch.tensor([3]))
        tensor([[2, 0, 1]])
    """
    least = torch.finfo(logits.dtype).min  # above the label, which must come behind all of them
    ordered = logits.clamp_min(least).scatter(1, label[:, None], -torch.inf)
    return ordered.argsort(dim=1, descending=True)[:, :-1]


def dlr(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Difference of logits ratio (Croce and Hein, 2020), [N]: the margin over the spread of the logits.

    -(z_y - max_{i != y} z_i) / (z_(1) - z_(3)), with a target -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2). The ratio
    does not change with the scale of the logits. It needs 3 classes, targeted 4; with 3, or 3 that the model does not
    rule out, z_(2) and z_(3) stand for z_(3) and z_(4), for z_(3) alone may be the target, whose ratio would be
    constant. With 2 classes the plain margin remains.
    """
    missing = max(0, 4 - logits.shape[1])
    ordered = F.pad(logits, (0, missing), value=-torch.inf).sort(dim=1, descending=True).values
    second, third, fourth = (_known(ordered[:, place]) for place in (1, 2, 3))
    own = logits.gather(1, y[:, None]).squeeze(1)
    if target is None:
        gain = margin(logits, y, None)
        below = third[0]
    else:
        gain = logits.gather(1, target[:, None]).squeeze(1) - own
        below = (third[0] + torch.where(fourth[1], fourth[0], second[0])) / 2
    spread = torch.where(third[1], ordered[:, 0] - below, 1.0)
    return gain / (spread + _SMALL)


def _known(logit: Tensor) -> tuple[Tensor, Tensor]:
    """A column of logits [N], 0 where it is -inf, and where it is not."""
    there = logit != -torch.inf
    return logit.masked_fill(~there, 0.0), there
