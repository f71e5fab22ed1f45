"""Fast adaptive boundary attack (Croce and Hein, 2020).

d_1 = proj_plane(x_t) - x_t,   d_2 = proj_plane(x) - x,   a = min(|d_1| / (|d_1| + |d_2|), alpha_max)
x_{t+1} = (1 - a) (x_t + eta d_1) + a (x + eta d_2),   and x + beta (x_{t+1} - x) behind the boundary

The plane is the nearest linearised class boundary, the projection onto it stays in the box.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Norm, as_norm, lengths
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import margin, wrong_classes
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError, at_least_one

__all__ = ["FAB", "step_to_plane"]

STEPS_BETWEEN_DROPS = 10
FINAL_SEARCH_STEPS = 3
SHORT_OF_BOUNDARY = 0.95
"""Share of the way to the interpolated boundary that the final search goes: at the boundary itself rounding decides."""

START_RADIUS: dict[Norm, float] = {"Linf": 0.3, "L2": 1.0, "L1": 5.0}
"""Twice the farthest that a random start lies from the image where no eps is given."""

DUAL: dict[Norm, Norm] = {"Linf": "L1", "L2": "L2", "L1": "Linf"}

_TINY = torch.finfo(torch.float32).tiny
_FAR = 1e30
"""Farther than any box, and finite."""


class FAB(Attack):
    """Walks along the decision boundary, biased towards the image; finds small perturbations without a step size.

    Args:
        eps: a success counts only within this distance, and then ends the search; default any, the nearest is sought.
        steps: iterations; each costs two forwards and a backward (K - 1 backwards with ``targets=0``).
        norm: "Linf", "L2" or "L1".
        targets: aim in turn at that many most likely wrong classes (9 in AutoAttack's FAB-T); 0 for the paper's
            untargeted attack, which linearises all boundaries at each step.
        restarts: the first run starts at the image, further ones at random points at half the distance found so far.
        alpha_max: largest bias towards the image.
        eta: overshoot of both projections.
        beta: how far a point behind the boundary is left away from the image.
        seed: of the random starts.

    Raises:
        InputError: a value out of range, an unknown norm.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> FAB(norm="L2", steps=10, targets=2).run(model, x, model(x).argmax(dim=1)).images.shape
        torch.Size([2, 1, 2, 2])
    """

    loss = staticmethod(margin)
    judges_itself = True

    def __init__(
        self,
        eps: Budget | None = None,
        steps: int = 100,
        norm: Norm = "Linf",
        targets: int = 0,
        restarts: int = 1,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__(restarts, seed)
        at_least_one(steps=steps)
        if targets < 0:
            raise InputError(f"targets must not be negative, got {targets}")
        if not 0 <= alpha_max <= 1 or not 0 <= beta <= 1:
            raise InputError(f"alpha_max and beta must lie in [0, 1], got {alpha_max} and {beta}")
        if not 1 <= eta < float("inf"):
            raise InputError(f"eta must be at least 1, or the boundary is not crossed, got {eta}")
        self.norm, self.shortest = as_norm(norm), norm
        self.eps = None if eps is None else as_eps(eps, norm)
        self.steps, self.targets = steps, targets
        self.alpha_max, self.eta, self.beta = alpha_max, eta, beta

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """One walk, or one for each target class, then a short search between the best image and the clean one."""
        restart = goal.best_logits is not None
        everyone = goal.active
        ranking = wrong_classes(goal.logits(goal.x), goal.y)
        goal.survivors()
        turns = 1 if goal.reach or not self.targets else min(self.targets, ranking.shape[1])
        for rank in range(turns):
            if not len(goal.active):
                break
            place = torch.searchsorted(everyone, goal.active)
            if self.targets and not goal.reach:
                goal.target = ranking[place, rank]
            self._walk(goal, self._random_point(goal, noise.select(place)) if restart else goal.x)
            goal.survivors()
        if not goal.reach:
            goal.target = None
        if len(goal.active):
            _search_between(goal)

    def _walk(self, goal: Goal, x_adv: Tensor) -> None:
        """The loop of the module's equation."""
        for step in range(self.steps):
            gap, grad = self._nearest_plane(goal, x_adv)
            x_adv = self._step(goal.x, x_adv, gap, grad)
            fooled = goal.succeeded(goal.logits(x_adv)).view(-1, 1, 1, 1)
            # Numbers alone would take the default precision, which is not float32 in a run of half precision.
            x_adv = torch.lerp(goal.x, x_adv, torch.ones_like(fooled, dtype=x_adv.dtype).masked_fill(fooled, self.beta))
            if (step + 1) % STEPS_BETWEEN_DROPS == 0 and (keep := goal.survivors()) is not None:
                x_adv = x_adv[keep]
                if not len(keep):
                    return

    def _step(self, x: Tensor, x_adv: Tensor, gap: Tensor, grad: Tensor) -> Tensor:
        """The next point: a mean of both projections onto {z: gap + <grad, z - x_adv> = 0}, each overshot."""
        clean, here, normal = x.flatten(1), x_adv.flatten(1), grad.flatten(1)
        from_clean = (normal * (here - clean)).sum(dim=1) - gap
        steps = step_to_plane(
            torch.cat([here, clean]), torch.cat([normal, normal]), torch.cat([-gap, from_clean]), self.norm
        )
        sizes = lengths(steps, self.norm)[:, None].clamp(min=1e-8)
        d_1, d_2 = steps.chunk(2)
        size_1, size_2 = sizes.chunk(2)
        bias = (size_1 / (size_1 + size_2)).clamp(max=self.alpha_max)
        moved = (1 - bias) * (here + self.eta * d_1) + bias * (clean + self.eta * d_2)
        return moved.clamp(0, 1).view_as(x)

    def _nearest_plane(self, goal: Goal, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Gap [N] and gradient [N, C, H, W] of the class whose linearised boundary is nearest."""
        if goal.reach:
            gap, grad = goal.loss_and_gradient(x_adv)
            return gap.nan_to_num(nan=0.0), grad
        classes = goal.best_logits.shape[1]
        if goal.target is not None:
            rivals = goal.target[:, None]
        else:  # [N, K - 1] all classes but the label
            rivals = torch.arange(classes - 1, device=x_adv.device).expand(len(x_adv), -1)
            rivals = rivals + (rivals >= goal.y[:, None])
        weights = (F.one_hot(rivals.T, classes) - F.one_hot(goal.y, classes)).float()  # [M, N, K]
        logits, grads = goal.logits_and_gradients(x_adv, weights)
        gaps = (logits.gather(1, rivals) - logits.gather(1, goal.y[:, None])).nan_to_num(nan=0.0)
        if rivals.shape[1] == 1:
            return gaps[:, 0], grads[0]
        slopes = lengths(grads.flatten(2), DUAL[self.norm]).T
        nearest = (gaps.abs() / slopes.clamp(min=1e-12)).argmin(dim=1)
        here = torch.arange(len(nearest), device=nearest.device)
        return gaps[here, nearest], grads[nearest, here]

    def _random_point(self, goal: Goal, noise: Noise) -> Tensor:
        """A point of the sphere around the image whose radius is half the distance found so far, or half of eps."""
        like = goal.x
        direction = 2 * noise.uniform(like) - 1 if self.norm == "Linf" else noise.normal(like)
        length = lengths(direction.flatten(1), self.norm).clamp(min=_TINY)
        found = torch.where(goal.success[goal.active], -goal.best_score[goal.active], torch.inf)
        radius = 0.5 * found.clamp(max=START_RADIUS[self.norm] if self.eps is None else self.eps)
        return (like + (radius / length).view(-1, 1, 1, 1) * direction).clamp(0, 1)


def _search_between(goal: Goal) -> None:
    """Regula falsi for the boundary between the clean image and the best one (the paper's final search)."""
    success = goal.success[goal.active]
    clean, fooled = goal.x, torch.where(success.view(-1, 1, 1, 1), goal.best[goal.active], goal.x)
    behind = margin(goal.best_logits[goal.active], goal.y, goal.target)
    before = goal.logits_and_loss(clean)[1]
    for _ in range(FINAL_SEARCH_STEPS):
        share = (behind / (behind - before)).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(0, 1) * SHORT_OF_BOUNDARY
        between = fooled + share.view(-1, 1, 1, 1) * (clean - fooled)
        logits, gap = goal.logits_and_loss(between)
        crossed = goal.succeeded(logits)
        fooled = torch.where(crossed.view(-1, 1, 1, 1), between, fooled)
        clean = torch.where(crossed.view(-1, 1, 1, 1), clean, between)
        behind, before = torch.where(crossed, gap, behind), torch.where(crossed, before, gap)


def step_to_plane(x: Tensor, normal: Tensor, amount: Tensor, norm: Norm) -> Tensor:
    """The shortest d [N, D] with <normal, d> = amount and x + d in [0, 1], exactly.

    Every entry moves the way that helps. Linf and L2: by min(t, room) and min(t |normal|, room), where t solves a
    concave, piecewise linear equation: Newton's method reaches it from below in a few rounds, one host sync each. L1:
    as far as there is room, the steepest first. Where the box ends before the plane, its corner nearest to the plane.

    Args:
        x: [N, D] in [0, 1].
        normal: [N, D].
        amount: [N], of either sign.
        norm: in which d is shortest.
    """
    heading = normal.sign() * amount.sign()[:, None]
    peak = normal.abs().amax(dim=1, keepdim=True).clamp(min=_TINY)  # squares of tiny gradients underflow
    slope, need = normal.abs() / peak, amount.abs()[:, None] / peak
    # Arithmetic in place of masks: on a CPU, choosing by a mask without a pattern takes twenty times as long.
    room = ((heading + 1) / 2 - x) * heading  # 1 - x upwards, x downwards, nothing where the plane is level
    if norm == "L1":
        steepest, order = slope.sort(dim=1, descending=True)
        reach = room.gather(1, order)
        gain = (steepest * reach).double()
        missing = (need - (gain.cumsum(dim=1) - gain)).clamp(min=0) / steepest.clamp(min=_TINY)
        return heading * torch.zeros_like(x).scatter_(1, order, torch.minimum(missing.to(x.dtype), reach))
    pace = torch.ones_like(slope) if norm == "Linf" else slope  # of each entry in t
    gain, cost = slope * pace, slope * room
    t, free = torch.zeros_like(need), room.sign()
    still = torch.empty_like(free)
    while True:  # every round blocks the entries that the last t drove into the box; t only grows
        left = (need - torch.linalg.vecdot(cost, 1 - free)[:, None]).clamp(min=0)
        slowest = torch.linalg.vecdot(gain, free)[:, None].clamp(min=_TINY)  # 0 / 0: all are blocked
        t = torch.maximum(t, left / slowest).clamp(max=_FAR)
        reach = t * pace
        torch.lt(reach, room, out=still)
        still *= free
        if torch.equal(still, free):
            return heading * torch.minimum(reach, room)
        free, still = still, free
