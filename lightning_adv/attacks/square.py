"""Square Attack (Andriushchenko et al., 2020; L1: Croce and Hein, 2021): a random search that needs no gradient.

Each query changes one square window of the best image so far and keeps the change if it raises the margin

    max_{k != y} z_k - z_y

Under Linf the window moves to the faces of the ball; under L2 and L1 the budget spent in a second window moves to the
first. The share p of the pixels that a window covers halves after 10, 50, 200, 500, 1000, 2000, 4000, ... queries.
"""

import math
from bisect import bisect_left
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Ball, Norm, as_norm
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import margin
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError, at_least_one

__all__ = ["Square"]

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Window changes after which p halves, in a schedule of ``SCHEDULE`` queries."""

SCHEDULE = 10_000

QUERIES_PER_DRAW = 64
"""The random numbers of so many queries are drawn at once."""

QUERIES_BETWEEN_DROPS = 8
"""Finished samples leave every so many queries, at one host sync; in the first few, where most fall, every time."""

_SMALL = 1e-12


class Square(Attack):
    """Random search over square windows: no gradient, one forward a query.

    Windows and signs are drawn for each sample, and windows reach every pixel. A sample stops at its first success.

    Args:
        eps: radius of the ball, in pixel units of [0, 1]; ``8/255`` is accepted.
        queries: forwards of a sample that does not fall, the first image included.
        norm: "Linf", "L2" or "L1".
        p_init: share of the pixels that the first windows cover.
        rescale_schedule: stretch the schedule of 10,000 queries to ``queries`` (AutoAttack does not).
        restarts: independent searches in evaluation, each of ``queries``, on survivors.
        seed: of the windows and signs in evaluation.

    Raises:
        InputError: eps, queries, p_init or restarts out of range, an unknown norm.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> result = Square(eps="8/255", queries=20).run(model, torch.rand(2, 1, 4, 4), torch.tensor([0, 2]))
        >>> result.zero_gradient.any()
        tensor(False)
    """

    loss = staticmethod(margin)
    judges_itself = black_box = True

    def __init__(
        self,
        eps: Budget = 8 / 255,
        queries: int = 5000,
        norm: Norm = "Linf",
        p_init: float = 0.8,
        rescale_schedule: bool = False,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(restarts, seed)
        at_least_one(queries=queries)
        if not 0 < p_init <= 1:
            raise InputError(f"p_init is a share of the pixels and must lie in (0, 1], got {p_init}")
        self.norm, self.eps = as_norm(norm), as_eps(eps, norm)
        self.queries, self.p_init, self.rescale_schedule = queries, p_init, rescale_schedule

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """Change a window, look, keep what is better."""
        moves = (_FaceMoves if self.norm == "Linf" else _MassMoves)(Ball(goal.x, self.eps, self.norm))
        best = moves.start(noise)
        logits, loss = goal.look(best)
        done, logits, loss = goal.proven(best, logits, loss, torch.ones_like(goal.active, dtype=torch.bool))
        for query in range(1, self.queries):
            if query < QUERIES_BETWEEN_DROPS or query % QUERIES_BETWEEN_DROPS == 0:
                goal.credit(best, logits, loss)
                if (keep := goal.survivors()) is not None:
                    if not len(keep):
                        return
                    best, logits, loss, done = best[keep], logits[keep], loss[keep], done[keep]
                    moves.select(keep)
                    noise = noise.select(keep)
            turn = (query - 1) % QUERIES_PER_DRAW
            if turn == 0:
                moves.draw(noise, [self._side(query + ahead, goal.x) for ahead in range(QUERIES_PER_DRAW)])
            changed = moves.change(best, turn)
            new_logits, new_loss = goal.look(changed)
            falls, new_logits, new_loss = goal.proven(changed, new_logits, new_loss, ~done)
            better = (falls | (new_loss > loss)) & ~done
            if best.device.type == "cpu":  # nothing waits for the positions here, and few windows are kept
                kept = better.nonzero().flatten()
                best = best.index_copy_(0, kept, changed.index_select(0, kept))
            else:
                best = torch.where(better[:, None, None, None], changed, best)
            logits = torch.where(better[:, None], new_logits, logits)
            loss = torch.where(better, new_loss, loss)
            done = done | falls
        goal.credit(best, logits, loss)

    def _side(self, query: int, x: Tensor) -> int:
        """Side of the window of a query, in pixels."""
        height, width = x.shape[2:]
        before = query - 1
        if self.rescale_schedule:
            before = int(before / self.queries * SCHEDULE)
        side = round(math.sqrt(self.p_init * 0.5 ** bisect_left(HALVINGS, before) * height * width))
        side = max(side, 1) if self.norm == "Linf" else max(side, 3) | 1  # the patterns below have a middle
        return min(side, height, width)


class _FaceMoves:
    """Linf: a window goes to the upper or lower face of the ball, channel by channel."""

    def __init__(self, ball: Ball) -> None:
        self.ball = ball
        self.rows = self.columns = None  # until the first windows are drawn

    def start(self, noise: Noise) -> Tensor:
        """Vertical stripes on the faces of the ball."""
        x = self.ball.center
        return self.ball.project(x + self.ball.eps * _signs(noise.uniform(x[:, :, :1])))

    def draw(self, noise: Noise, sides: list[int]) -> None:
        """The windows of the next queries as outer products: rows [Q, N, 1, H, 1] times columns [Q, N, C, 1, W]."""
        x = self.ball.center
        draws = noise.uniform(x.new_empty(len(x), len(sides), 2 + x.shape[1])).transpose(0, 1)  # [Q, N, 2 + C]
        side = torch.tensor(sides, device=x.device)[:, None]
        inside = [
            _inside(_corner(draws[..., axis], length - side), side, length) for axis, length in enumerate(x.shape[2:])
        ]
        self.rows = inside[0][:, :, None, :, None]
        self.columns = 2 * self.ball.eps * _signs(draws[..., 2:, None, None]) * inside[1][:, :, None, None, :]

    def change(self, best: Tensor, turn: int) -> Tensor:
        """``best`` with its next window moved."""
        return self.ball.project(torch.addcmul(best, self.rows[turn], self.columns[turn]))

    def select(self, keep: Tensor) -> None:
        """Go on with the samples at the positions ``keep``."""
        self.ball = self.ball.select(keep)
        if self.rows is not None:
            self.rows, self.columns = self.rows[:, keep], self.columns[:, keep]


class _MassMoves:
    """L2 and L1: the second window is cleared and the budget of both, with what was unspent, put into the first."""

    def __init__(self, ball: Ball) -> None:
        self.ball, self.order = ball, 2 if ball.norm == "L2" else 1
        self.corners = None  # until the first windows are drawn

    def start(self, noise: Noise) -> Tensor:
        """About 5 x 5 tiles of the pattern, with a sign each."""
        x = self.ball.center
        height, width = x.shape[2:]
        side = max(min(height, width) // 5, 1)
        down, across = height // side, width // side
        draws = noise.uniform(x.new_empty(len(x), 1 + x.shape[1], down, across))
        draws = draws.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
        pattern = _pattern(side, self.order).to(x.device)
        tiles = torch.where(draws[:, :1] < 0.5, pattern.repeat(down, across), pattern.T.repeat(down, across))
        above, before = (height - down * side) // 2, (width - across * side) // 2
        edges = (before, width - across * side - before, above, height - down * side - above)
        return self._spend(F.pad(tiles * _signs(draws[:, 1:]), edges))

    def draw(self, noise: Noise, sides: list[int]) -> None:
        """Corners [Q, 4, N] of two windows, which way the pattern lies [Q, N, 1, 1] and its signs [Q, N, C, 1]."""
        x = self.ball.center
        draws = noise.uniform(x.new_empty(len(x), len(sides), 5 + x.shape[1])).transpose(0, 1)  # [Q, N, 5 + C]
        self.sides = sides
        self.patterns = {side: _pattern(side, self.order).to(x.device) for side in set(sides)}
        room = torch.tensor(x.shape[2:] * 2, device=x.device) - torch.tensor(sides, device=x.device)[:, None, None]
        self.corners = _corner(draws[..., :4], room).transpose(1, 2)
        self.upright = draws[..., 4, None, None] < 0.5
        self.signs = _signs(draws[..., 5:, None])

    def change(self, best: Tensor, turn: int) -> Tensor:
        """``best`` with the budget of its next two windows moved to the first."""
        x, side = self.ball.center, self.sides[turn]
        channels, width = x.shape[1], x.shape[3]
        offset = (best - x).flatten(2)  # [N, C, H W]
        spent = torch.linalg.vector_norm(offset.flatten(1), ord=self.order, dim=1)[:, None, None]
        step = torch.arange(side, device=x.device)
        window = (step[:, None] * width + step).flatten()  # [S S]
        top, left, top_2, left_2 = self.corners[turn]
        first = ((top * width + left)[:, None] + window)[:, None].expand(-1, channels, -1)  # [N, C, S S]
        second = ((top_2 * width + left_2)[:, None] + window)[:, None].expand(-1, channels, -1)

        old = offset.gather(2, first)
        offset = offset.scatter(2, first, 0.0)
        in_both = self._power(old) + self._power(offset.gather(2, second))  # what they share is counted once
        pattern = self.patterns[side]
        pattern = torch.where(self.upright[turn], pattern.flatten(), pattern.T.flatten())  # [N, 1, S S]
        new = pattern * self.signs[turn] + old / (self._root(self._power(old)) + _SMALL)
        unspent = (self.ball.eps**self.order - spent**self.order).clamp(min=0)
        share = self._root(unspent / channels + in_both) * (1 if self.order == 2 else channels)
        new = new / (self._root(self._power(new)) + _SMALL) * share
        return self._spend(offset.scatter_(2, second, 0.0).scatter_(2, first, new).view_as(x))

    def select(self, keep: Tensor) -> None:
        """Go on with the samples at the positions ``keep``."""
        self.ball = self.ball.select(keep)
        if self.corners is not None:
            self.corners = self.corners[:, :, keep]
            self.upright, self.signs = self.upright[:, keep], self.signs[:, keep]

    def _spend(self, offset: Tensor) -> Tensor:
        """The image at ``offset``: stretched to the sphere and clamped (L2), or projected (L1)."""
        if self.order == 1:
            return self.ball.project(self.ball.center + offset)
        length = torch.linalg.vector_norm(offset.flatten(1), dim=1)[:, None, None, None]
        return torch.addcmul(self.ball.center, offset, self.ball.eps / (length + _SMALL)).clamp_(0, 1)

    def _power(self, window: Tensor) -> Tensor:
        """Norm to the power of its order, [N, C, 1]."""
        return (window.square() if self.order == 2 else window.abs()).sum(dim=2, keepdim=True)

    def _root(self, power: Tensor) -> Tensor:
        return power.sqrt() if self.order == 2 else power


def _signs(uniform: Tensor) -> Tensor:
    return torch.ones_like(uniform).copysign(uniform - 0.5)


def _corner(uniform: Tensor, room: Tensor) -> Tensor:
    """A uniform integer from 0 to ``room`` at most."""
    return torch.minimum((uniform * (room + 1)).long(), room)


def _inside(corner: Tensor, side: Tensor, length: int) -> Tensor:
    """[..., L] float: 1 where a pixel of an axis is covered by the window that begins at ``corner``."""
    past = torch.arange(length, device=corner.device) - corner[..., None]
    return ((past >= 0) & (past < side[..., None])).float()


@cache
def _pattern(side: int, order: int) -> Tensor:
    """[S, S] of norm 1: a peak above a trough, each falling off in nested squares around its middle."""
    upper = side // 2
    both = torch.cat([_peak(upper, side, order), -_peak(side - upper, side, order)])
    return both / torch.linalg.vector_norm(both, ord=order)


def _peak(height: int, width: int, order: int) -> Tensor:
    """Square k around the middle adds (k + 1)^-2 to what it covers, under L1 (k + 1)^-4; of norm 1."""
    down = (torch.arange(height) - height // 2).abs()
    across = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(down[:, None], across)
    squares = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float32)
    level = (squares ** (-4 if order == 1 else -2)).flip(0).cumsum(0).flip(0)  # of the pixels of a ring
    peak = level[ring]
    return peak / torch.linalg.vector_norm(peak, ord=order)
