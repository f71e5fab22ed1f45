"""Auto-PGD (Croce and Hein, 2020; L1: Croce and Hein, 2021): PGD that chooses its own step sizes.

z_{t+1} = P(x_t + eta grad),   x_{t+1} = P(x_t + a (z_{t+1} - x_t) + (1 - a)(x_t - x_{t-1})),   a = 0.75

At checkpoints the step is halved, and the search goes on from the best point so far, for samples whose loss rose in
fewer than rho of the steps since the last checkpoint, or whose best did not improve at an unchanged step.
"""

from typing import Literal

import torch
from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Ball, Norm, as_norm
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import cross_entropy, dlr, wrong_classes
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError, at_least_one

__all__ = ["APGD"]

MOMENTUM = 0.75
STEPS_BETWEEN_DROPS = 5

ENOUGH_STEPS = 20
"""The search goes through several lengths of step before it has been everywhere."""

L1_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Under L1 the search begins in larger balls: (factor of eps, share of the steps)."""

L1_SPARSITY = 1.5
"""An L1 step moves as many pixels as the best perturbation has, divided by this."""

L1_STEP_DIVISORS = (1.5, 10.0)
"""An L1 step shrinks by the first, and to no less than eps divided by the second."""


class APGD(Attack):
    """Step-size free PGD; with ``targets``, the targeted version of AutoAttack (APGD-T).

    Args:
        eps: radius of the ball, in pixel units of [0, 1]; ``8/255`` is accepted.
        steps: gradient steps (100 in AutoAttack).
        norm: "Linf", "L2" or "L1".
        loss: "ce" or "dlr" (the difference of logits ratio, which no scaling of the logits defeats).
        targets: aim in turn at that many most likely wrong classes (9 in APGD-T), at survivors only; 0 for none.
        rho: share of rising steps below which the step is halved.
        restarts: random restarts in evaluation, on survivors.
        seed: of the start in evaluation.

    Raises:
        InputError: eps, steps, targets or rho out of range, an unknown norm or loss.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> APGD(eps="8/255", steps=10, loss="dlr").run(model, x, torch.tensor([0, 2])).logits.shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        eps: Budget = 8 / 255,
        steps: int = 100,
        norm: Norm = "Linf",
        loss: Literal["ce", "dlr"] = "ce",
        targets: int = 0,
        rho: float = 0.75,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(restarts, seed)
        losses = {"ce": cross_entropy, "dlr": dlr}
        if loss not in losses:
            raise InputError(f"loss must be ce or dlr, got {loss!r}")
        at_least_one(steps=steps)
        if targets < 0:
            raise InputError(f"targets must not be negative, got {targets}")
        if not 0 < rho < 1:
            raise InputError(f"rho must lie between 0 and 1, got {rho}")
        self.norm, self.eps = as_norm(norm), as_eps(eps, norm)
        self.steps, self.targets, self.rho, self.loss = steps, targets, rho, losses[loss]

    judges_itself, takes_shares = True, True

    @property
    def covers_ball(self) -> bool:
        """Without classes to aim at, given enough steps."""
        return self.steps >= ENOUGH_STEPS and not self.targets

    @property
    def takes_probabilities(self) -> bool:
        """Without classes to aim at."""
        return super().takes_probabilities and not self.targets

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """One ascent, or one for each target class."""
        if not self.targets or goal.reach:
            return self._ascend(goal, noise)
        everyone = goal.active
        logits = goal.look(goal.x)[0]
        # The clean image counts where it is wrong already; its loss is no target's, and compares with none of theirs.
        goal.credit(goal.x, logits, logits.new_full((len(logits),), -torch.inf))
        ranking = wrong_classes(logits, goal.y)
        for rank in range(min(self.targets, ranking.shape[1])):
            place = torch.searchsorted(everyone, goal.active)
            goal.target = ranking[place, rank]
            self._ascend(goal, noise.select(place))
            goal.survivors()
            if not len(goal.active):
                break
        goal.target = None
        return None

    def _ascend(self, goal: Goal, noise: Noise) -> None:
        start = Ball(goal.x, self.eps * goal.shares, self.norm).random_point(noise)
        if self.norm != "L1":
            self._search(goal, 1.0, start, range(self.steps))
            return
        keep_best, done = goal.keep_best, 0
        for factor, share in L1_STAGES:
            last = factor == 1
            goal.keep_best = keep_best and last  # what lies outside the ball is no finding
            steps = self.steps - done if last else max(1, int(share * self.steps))
            start = Ball(goal.x, factor * self.eps * goal.shares, self.norm).project(start)
            start = self._search(goal, factor, start, range(steps))
            done += steps

    def _search(self, goal: Goal, factor: float, start: Tensor, steps: range) -> Tensor:
        """Ascend from ``start`` in a ball of ``factor`` eps; the point of highest loss for every sample pursued."""
        ball = Ball(goal.x, factor * self.eps * goal.shares, self.norm)
        search = _Search(goal, start, ball.eps if self.norm == "L1" else 2 * ball.eps)
        if self.norm == "L1":
            search.changed = _changed(start, ball.center)
            search.spread = search.changed / (L1_SPARSITY * ball.center[0].numel())
        period, shortest, shrink = _checkpoints(len(steps), self.norm)
        since = 0
        for step in steps:
            search.x, search.previous = self._step(ball, search, first=step == 0), search.x
            search.look(goal, gradient=step + 1 < len(steps))
            since += 1
            if since == period:
                self._adapt(search, ball, since)
                since, period = 0, max(period - shrink, shortest)
            if (step + 1) % STEPS_BETWEEN_DROPS == 0 and (keep := goal.survivors()) is not None:
                search.select(keep)
                ball = ball.select(keep)
                if not len(keep):
                    break
        return search.best

    def _step(self, ball: Ball, search: "_Search", first: bool) -> Tensor:
        if self.norm == "L1":
            return ball.project(search.x + search.step * _sparse_direction(search.grad, search.spread))
        ahead = ball.project(torch.addcmul(search.x, search.step, ball.ascent_direction(search.grad, search.x)))
        if first:
            return ahead
        drift = search.x - search.previous
        return ball.project(torch.lerp(search.x, ahead, MOMENTUM).add_(drift, alpha=1 - MOMENTUM))

    def _adapt(self, search: "_Search", ball: Ball, since: int) -> None:
        """At a checkpoint: halve the step of the samples that stall and put them back to their best point."""
        if self.norm == "L1":
            changed = _changed(search.best, ball.center)
            sparser = changed < 0.95 * search.changed
            search.spread, search.changed = changed / (L1_SPARSITY * ball.center[0].numel()), changed
            slower, least = L1_STEP_DIVISORS
            search.step = torch.where(_wide(sparser), ball.eps, search.step / slower).clamp(ball.eps / least, ball.eps)
            search.restart_from_best(sparser)
            return
        stalls = search.rises <= self.rho * since
        stalls |= ~search.halved & (search.best_loss <= search.best_loss_then)
        search.halved, search.best_loss_then = stalls, search.best_loss.clone()
        search.rises = torch.zeros_like(search.rises)
        search.step = torch.where(_wide(stalls), search.step / 2, search.step)
        search.restart_from_best(stalls)


class _Search:
    """Where each sample of an ascent stands; every field has one entry a sample."""

    def __init__(self, goal: Goal, start: Tensor, step: float | Tensor) -> None:
        self.x = self.previous = self.best = start
        self.loss, self.grad = goal.loss_and_gradient(start)
        self.best_loss, self.best_grad = self.loss, self.grad
        self.best_loss_then = self.best_loss  # at the last checkpoint
        self.halved = torch.ones_like(self.loss, dtype=torch.bool)
        self.rises = torch.zeros_like(self.loss)  # steps since the last checkpoint that raised the loss
        self.step = torch.ones_like(_wide(self.loss)) * step
        self.spread = torch.zeros_like(self.loss)  # L1: share of the pixels that a step moves
        self.changed = torch.full_like(self.loss, torch.inf)  # L1: pixels changed at the last checkpoint

    def look(self, goal: Goal, gradient: bool) -> None:
        """Loss and gradient at the new point; remember it if it is the best."""
        before = self.loss
        if gradient:
            self.loss, self.grad = goal.loss_and_gradient(self.x)
        else:
            self.loss = goal.logits_and_loss(self.x)[1]
        self.rises = self.rises + (self.loss > before)
        better = self.loss > self.best_loss
        self.best = torch.where(_wide(better), self.x, self.best)
        self.best_grad = torch.where(_wide(better), self.grad, self.best_grad)
        self.best_loss = torch.where(better, self.loss, self.best_loss)

    def restart_from_best(self, which: Tensor) -> None:
        """Go on from the best point for the samples ``which`` [N]."""
        self.x = torch.where(_wide(which), self.best, self.x)
        self.grad = torch.where(_wide(which), self.best_grad, self.grad)

    def select(self, keep: Tensor) -> None:
        """Go on with the samples at the positions ``keep``."""
        for name, value in vars(self).items():
            setattr(self, name, value[keep])


def _checkpoints(steps: int, norm: Norm) -> tuple[int, int, int]:
    """First period between checkpoints, the shortest one, and by how much each is shorter than the one before."""
    if norm == "L1":
        period = max(int(0.04 * steps), 1)
        return period, period, 0
    return max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)


def _sparse_direction(grad: Tensor, spread: Tensor) -> Tensor:
    """Signs of the share ``spread`` [N] of largest gradient entries, of L1 length 1."""
    size = grad.abs().flatten(1)
    pixels = size.shape[1]
    rank = ((1 - spread) * pixels).long().clamp(0, pixels - 1)
    threshold = size.sort(dim=1).values.gather(1, rank[:, None])
    direction = torch.where(size >= threshold, grad.flatten(1).sign(), 0.0)
    return (direction / direction.abs().sum(dim=1, keepdim=True).clamp(min=1)).view_as(grad)


def _changed(x: Tensor, center: Tensor) -> Tensor:
    """Number of changed pixels, [N] float."""
    return (x != center).flatten(1).sum(dim=1).float()


def _wide(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)
