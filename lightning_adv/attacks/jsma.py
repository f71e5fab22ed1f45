"""Jacobian-based saliency map attack (Papernot et al., 2016): few pixels, changed as far as they go.

(p, q) = argmax -a b,  a = sum_{i in p,q} dF_t / dx_i > 0,  b = sum_{i in p,q} sum_{j != t} dF_j / dx_i < 0
x_p, x_q <- clamp(x_p + theta), clamp(x_q + theta);   both signs turn round where theta is negative
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError

__all__ = ["JSMA", "best_pair"]

SATURATED = 0.01
"""A pixel nearer than this to the end of its range is left alone: moving it would change nothing but the count."""

PAIRS_AT_ONCE = 2**24
"""Pairs that are compared in one go, over the whole batch: about half a GiB."""


class JSMA(Attack):
    """Changes the most salient pair of pixels, or single pixel, again and again until the target class is predicted.

    A pixel is one channel of one position. Without an explicit target the attack aims at the most likely wrong class,
    and any wrong answer ends it.

    Args:
        theta: change of a pixel in one step, in pixel units of [0, 1]; positive brightens, negative darkens.
        gamma: largest share of pixels changed.
        pixels: 2 changes the best pair in each step (the paper), 1 the best pixel.

    Raises:
        InputError: theta zero or beyond [-1, 1], gamma not in (0, 1], another number of pixels.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> changed = (JSMA(gamma=0.5)(model, x, y, target=torch.tensor([1, 1])) != x).flatten(1).sum(dim=1)
        >>> bool((changed <= 2).all())
        True
    """

    judges_itself = True
    takes_probabilities = False

    def __init__(self, theta: float = 1.0, gamma: float = 0.1, pixels: Literal[1, 2] = 2) -> None:
        super().__init__()
        if not 0 < abs(theta) <= 1:
            raise InputError(f"theta must lie in [-1, 1] and not be 0, got {theta}")
        if not 0 < gamma <= 1:
            raise InputError(f"gamma is a share of the pixels and must lie in (0, 1], got {gamma}")
        if pixels not in (1, 2):
            raise InputError(f"pixels must be 1 or 2, got {pixels}")
        self.theta, self.gamma, self.pixels = theta, gamma, pixels

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """The loop of the module's equation."""
        x_adv = goal.x
        limit = math.floor(self.gamma * x_adv[0].numel() + 1e-6)
        changed = torch.zeros_like(x_adv.flatten(1), dtype=torch.bool)
        aim = self._aim(goal)
        for _ in range(limit // self.pixels * math.ceil(1 / abs(self.theta))):
            toward, away = self._saliency(goal, x_adv, aim)
            open_ = self._open(x_adv.flatten(1), changed, limit)
            chosen, exists = (best_pair if self.pixels == 2 else _best_pixel)(toward, away, open_)
            keep = (
                (exists & ~goal.success[goal.active]).nonzero().flatten()
            )  # a step costs three passes: sync each time
            if len(keep) < len(goal.active):
                goal.pursue(keep)
                x_adv, changed, aim, chosen = x_adv[keep], changed[keep], aim[keep], chosen[keep]
                if not len(keep):
                    return
            changed = changed.scatter(1, chosen, True)
            flat = x_adv.flatten(1).scatter_add(1, chosen, torch.full_like(chosen, self.theta, dtype=x_adv.dtype))
            x_adv = flat.clamp(0, 1).view_as(x_adv)
        goal.logits(x_adv)

    def _aim(self, goal: Goal) -> Tensor:
        """[N] class that the saliency is for."""
        logits = goal.logits(goal.x)
        return goal.target if goal.reach else logits.scatter(1, goal.y[:, None], -torch.inf).argmax(dim=1)

    def _saliency(self, goal: Goal, x_adv: Tensor, aim: Tensor) -> tuple[Tensor, Tensor]:
        """What a step of each pixel adds to the aim's logit and takes from the others', [N, D] each."""
        target = F.one_hot(aim, goal.best_logits.shape[1]).float()
        _, grads = goal.logits_and_gradients(x_adv, torch.stack([target, 1 - target]))
        toward, others = grads.flatten(2) * math.copysign(1.0, self.theta)
        return toward, -others

    def _open(self, x_adv: Tensor, changed: Tensor, limit: int) -> Tensor:
        """[N, D] pixels that may move: with room, and changed before if no more may change."""
        room = 1 - x_adv if self.theta > 0 else x_adv
        full = changed.sum(dim=1, keepdim=True) + self.pixels > limit
        return (room > SATURATED) & (changed | ~full)


def _best_pixel(toward: Tensor, away: Tensor, open_: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`best_pair` for single pixels: [N, 1] and [N]."""
    toward, away = _scaled(toward), _scaled(away)
    score = torch.where((toward > 0) & (away > 0) & open_, toward * away, -torch.inf)
    best, pixel = score.max(dim=1, keepdim=True)
    return pixel, best.squeeze(1) > -torch.inf


def best_pair(toward: Tensor, away: Tensor, open_: Tensor) -> tuple[Tensor, Tensor]:
    """The open pixels p != q of largest (toward_p + toward_q)(away_p + away_q), both sums positive.

    The product grows with both sums, so a pixel that two others surpass in both terms is never needed: only the two
    outermost staircases of the points (toward, away) are paired. All pairs of 150,528 pixels would be 22 billion.

    Args:
        toward: [N, D].
        away: [N, D].
        open_: [N, D] bool.

    Returns:
        [N, 2] positions, and [N] whether there is such a pair.
    """
    toward, away = _scaled(toward), _scaled(away)
    place = _outermost(toward, away, open_)
    exists = place >= 0
    place = place.clamp(min=0)
    first = torch.where(exists, toward.gather(1, place), -torch.inf)
    second = torch.where(exists, away.gather(1, place), -torch.inf)
    count, width = first.shape
    best = first.new_full((count,), -torch.inf)
    pair = place.new_zeros((count, 2))
    column = torch.arange(width, device=first.device)
    rows = max(1, PAIRS_AT_ONCE // max(1, count * width))
    for top in range(0, width, rows):
        row = column[top : top + rows]
        sum_toward = first[:, row, None] + first[:, None, :]  # [N, rows, width]
        sum_away = second[:, row, None] + second[:, None, :]
        allowed = (sum_toward > 0) & (sum_away > 0) & (row[:, None] < column)
        score, at = torch.where(allowed, sum_toward * sum_away, -torch.inf).flatten(1).max(dim=1)
        found = place.gather(1, torch.stack([row[at // width], at % width], dim=1))
        pair = torch.where((score > best)[:, None], found, pair)
        best = torch.maximum(best, score)
    return pair, best > -torch.inf


def _outermost(toward: Tensor, away: Tensor, open_: Tensor) -> Tensor:
    """Positions of the open points on the two outermost staircases, [N, M], filled up with -1. One host sync."""
    order = toward.argsort(dim=1, descending=True, stable=True)
    height = torch.where(open_, away, -torch.inf).gather(1, order)
    chosen = torch.zeros_like(open_)
    for _ in range(2):
        tallest = height.cummax(dim=1).values
        before = torch.cat([torch.full_like(tallest[:, :1], -torch.inf), tallest[:, :-1]], dim=1)
        stair = height > before
        chosen |= stair
        height = height.masked_fill(stair, -torch.inf)
    rank = torch.where(chosen, chosen.cumsum(dim=1) - 1, -1)
    width = int(rank.amax()) + 1
    filled = order.new_full((len(order), width + 1), -1)  # the last column takes what was not chosen
    filled.scatter_(1, torch.where(chosen, rank, width), torch.where(chosen, order, -1))
    return filled[:, :width]


def _scaled(values: Tensor) -> Tensor:
    """Divided by the largest of each sample: products of tiny gradients underflow."""
    return values / values.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
