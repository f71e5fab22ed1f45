"""The attacks of Carlini and Wagner (2017): a distance and the misclassification in one smooth objective.

minimise  penalty(x' - x) + c max(confidence - margin(f(x')), 0)  over w,  x' = (tanh(w) + 1) / 2,  by Adam

L2: penalty |d|^2, the smallest c that succeeds by binary search; with another c a descent goes on where the last one
ended, Adam's averages and all, where the authors begin again at the clean image: nearer images in fewer steps. Linf:
penalty sum (|d_i| - tau)^+, tau lowered when all |d_i| lie below it. L0: penalty |d|^2 over the pixels that may still
move, the least important of which are fixed when the attack succeeds.
"""

import copy
import math
from typing import Literal

import torch
from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import margin
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError

__all__ = ["CarliniWagner"]

REVIEWS = 10
"""A descent is looked at ten times, as in the authors' code: no progress since the last look ends it."""

PROGRESS = 0.9999
"""Share of the last objective above which there was none, the authors' value."""

L2_PROGRESS = 0.99
"""The same in the L2 search: what a descent leaves undone the next one does, from where it ended."""

INSIDE = 1 - 1e-6
"""Images are pulled in by this, for the ends of [0, 1] lie at infinity."""

ROUNDING = 1e-6
"""Of a margin, as a share of the clean one: success must not hang on the batch in which it is judged again."""

BETA_1, BETA_2, ADAM_EPS = 0.9, 0.999, 1e-8

MEMORY = 10
"""Turns that Adam's averages count for when a descent goes on: with another constant gradients have another size."""

INITIAL_CONST = {"L2": 1e-3, "Linf": 1e-5, "L0": 1e-3}
TAU_DECAY = 0.9
LARGEST_CONST = {"Linf": 20.0, "L0": 1e6}
CONST_GROWTH = {"Linf": 2.0, "L0": 100.0}
FIXED_SHARE = 0.3
"""Share of the pixels that L0 fixes at once; halved, down to a single one, where that was too much."""


class CarliniWagner(Attack):
    """Minimal perturbations by optimisation, every sample with its own constant, clock and Adam moments.

    A sample whose descent is over begins the next one at once, one whose search is over leaves the batch.

    Args:
        steps: most Adam steps of one descent; each is a forward and a backward to the input.
        norm: "L2", "Linf" or "L0" (pixels changed, each channel of a position on its own).
        binary_search_steps: descents of the L2 search for the constant.
        lr: learning rate of Adam in tanh space.
        initial_const: first constant; default 1e-3, for Linf 1e-5 (the authors' values).
        confidence: logit margin by which an image must be misclassified.
        abort_early: end a descent when a tenth of its steps brought no progress.
        eps: a success counts only within this distance; default any; not for L0.

    Raises:
        InputError: a value out of range, an unknown norm, eps with L0.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> attack = CarliniWagner(steps=20, binary_search_steps=3)
        >>> attack.run(model, x, model(x).argmax(dim=1)).images.shape
        torch.Size([2, 1, 2, 2])
    """

    loss = staticmethod(margin)

    def __init__(
        self,
        steps: int = 1000,
        norm: Literal["L2", "Linf", "L0"] = "L2",
        binary_search_steps: int = 9,
        lr: float = 0.01,
        initial_const: float | None = None,
        confidence: float = 0.0,
        abort_early: bool = True,
        eps: Budget | None = None,
    ) -> None:
        super().__init__()
        if norm not in INITIAL_CONST:
            raise InputError(f"CarliniWagner's norm must be L2, Linf or L0, got {norm!r}")
        if steps < 1 or binary_search_steps < 1:
            raise InputError(f"steps and binary_search_steps must be at least 1, got {steps}, {binary_search_steps}")
        initial_const = INITIAL_CONST[norm] if initial_const is None else initial_const
        if not (0 < lr < math.inf and 0 < initial_const < math.inf):
            raise InputError(f"lr and initial_const must be positive and finite, got {lr} and {initial_const}")
        if not 0 <= confidence < math.inf:
            raise InputError(f"confidence must be finite and not negative, got {confidence}")
        if norm == "L0" and eps is not None:
            raise InputError(
                "eps is a length and L0 a count: leave eps out, and count the changed pixels of the result"
            )
        self.norm, self.shortest = norm, None if norm == "L0" else norm
        self.steps, self.binary_search_steps, self.lr = steps, binary_search_steps, lr
        self.initial_const, self.confidence, self.abort_early = initial_const, confidence, abort_early
        self.eps = None if eps is None else as_eps(eps, norm)

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """The nearest image of each sample that reached the confidence, the clean one where none did."""
        inner = copy.copy(goal)  # its samples come and go without a record: only a margin of ``confidence`` counts here
        inner.keep_best, inner.zero_gradient = False, None
        search = {"L2": _Search, "Linf": _LinfSearch, "L0": _L0Search}[self.norm](self, inner)
        nearest, row = goal.x.clone(), torch.arange(len(goal.x), device=goal.x.device)
        keep = search.unfinished()
        while True:
            nearest[row] = search.best
            if goal.zero_gradient is not None:
                goal.zero_gradient[goal.active[row]] |= search.blind
            if len(keep) < len(row):
                inner.pursue(keep)
                search.select(keep)
                row = row[keep]
            if not len(row):
                return nearest
            for _ in range(search.interval):
                search.step(inner)
            search.review()
            keep = search.unfinished()


class _Search:
    """State of the L2 search, all of it [N, ...]; the other norms change the penalty and what follows a descent."""

    def __init__(self, attack: CarliniWagner, goal: Goal) -> None:
        self.attack, self.interval = attack, math.ceil(attack.steps / REVIEWS)
        self.x = goal.x
        lead = goal.logits_and_loss(self.x)[1]
        zero = torch.zeros_like(lead)
        self.wanted = attack.confidence + ROUNDING * lead.abs()
        self.best = self.x.clone()
        self.best_distance = torch.where(lead >= self.wanted, 0.0, torch.inf)
        self.const = zero + attack.initial_const
        self.lower, self.upper, self.descents = zero, zero + torch.inf, zero
        self.limit = zero + (math.inf if attack.eps is None else attack.eps**2 if attack.norm == "L2" else attack.eps)
        self.blind = zero > 0
        self.over = self.best_distance == 0
        self.start_descent(zero == 0, self.x)

    def unfinished(self) -> Tensor:
        """Positions of the samples that go on: one host sync."""
        return (~self.over).nonzero().flatten()

    def select(self, keep: Tensor) -> None:
        """Drop all other samples."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[keep])

    def start_descent(self, which: Tensor, start: Tensor) -> None:
        """Put the samples ``which`` [N] at the images ``start``, with new moments and a new clock."""
        fresh = {
            "w": torch.atanh((2 * start - 1) * INSIDE),
            "mean": torch.zeros_like(start),
            "square": torch.zeros_like(start),
            "turn": torch.zeros_like(self.const),
            "clock": torch.zeros_like(self.const),
            "reached": torch.zeros_like(which),
            "objective": torch.full_like(self.const, torch.inf),
            "last_objective": torch.full_like(self.const, torch.inf),
        }
        for name, value in fresh.items():
            setattr(self, name, torch.where(_like(which, value), value, vars(self).get(name, value)))

    def step(self, goal: Goal) -> None:
        """One step of Adam on every sample."""
        squashed = torch.tanh(self.w)
        image = self.image(squashed)
        lead, grad = goal.loss_and_gradient(image)
        offset = image - self.x
        penalty, slope = self.penalty(offset)
        short = self.wanted - lead
        slope = torch.addcmul(slope, _like(self.const * (short > 0), grad), grad, value=-1)
        self.adam(slope.mul_((1 - squashed.square_()).div_(2)))
        self.clock = self.clock + 1
        self.objective = penalty + self.const * short.clamp(min=0)
        self.blind = self.blind | ~(grad.flatten(1).any(dim=1) | lead.isnan())
        self.note(image, self.distance(offset, penalty), lead >= self.wanted, offset, grad)

    def adam(self, grad: Tensor) -> None:
        """Kingma and Ba (2015), bias corrected by each sample's own count of turns."""
        self.turn = self.turn + 1
        length = self.attack.lr / (1 - BETA_1**self.turn)
        self.mean.lerp_(grad, 1 - BETA_1)
        self.square.mul_(BETA_2).addcmul_(grad, grad, value=1 - BETA_2)
        deviation = self.square.sqrt().mul_(_like((1 - BETA_2**self.turn).rsqrt(), grad)).add_(ADAM_EPS)
        self.w.addcdiv_(_like(length, grad) * self.mean, deviation, value=-1)

    def image(self, squashed: Tensor) -> Tensor:
        """Pixels of tanh(w)."""
        return (squashed + 1) / 2

    def penalty(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """What distance costs, [N], and its gradient."""
        return offset.flatten(1).square().sum(dim=1), 2 * offset

    def distance(self, offset: Tensor, penalty: Tensor) -> Tensor:
        """[N] what is to be small."""
        return penalty

    def note(self, image: Tensor, distance: Tensor, success: Tensor, offset: Tensor, grad: Tensor) -> None:
        """Keep the nearest success."""
        nearer = success & (distance < self.best_distance) & (distance <= self.limit)
        self.best = torch.where(_like(nearer, image), image, self.best)
        self.best_distance = torch.where(nearer, distance, self.best_distance)
        self.reached = self.reached | success

    def ended(self, progress: float = PROGRESS) -> Tensor:
        """[N] descents that are over, by their clock or for want of progress."""
        stuck = ~(self.objective <= progress * self.last_objective)
        self.last_objective = self.objective
        return (self.clock >= self.attack.steps) | (stuck & self.attack.abort_early)

    def review(self) -> None:
        """Binary search: after a descent that is over the next one goes on from there with a better constant."""
        ended, success = self.ended(L2_PROGRESS), self.reached
        self.upper = torch.where(ended & success, torch.minimum(self.upper, self.const), self.upper)
        self.lower = torch.where(ended & ~success, torch.maximum(self.lower, self.const), self.lower)
        better = torch.where(self.upper.isinf(), self.const * 10, (self.lower + self.upper) / 2)
        self.const = torch.where(ended, better, self.const)
        self.descents = self.descents + ended
        self.over = self.descents >= self.attack.binary_search_steps
        self.reached = self.reached & ~ended
        self.forget(ended)
        self.restart_clock(ended)

    def forget(self, which: Tensor) -> None:
        """Let Adam's averages of the samples ``which`` [N] weigh as those of a few turns, at the same values."""
        turn = torch.where(which, self.turn.clamp(max=MEMORY), self.turn)
        for average, beta in ((self.mean, BETA_1), (self.square, BETA_2)):
            average.mul_(_like((1 - beta**turn) / (1 - beta**self.turn), average))
        self.turn = turn

    def restart_clock(self, which: Tensor) -> None:
        """Give the samples ``which`` [N] all steps again; what they are compared with starts again too."""
        self.clock = torch.where(which, 0, self.clock)
        self.objective = torch.where(which, torch.inf, self.objective)
        self.last_objective = torch.where(which, torch.inf, self.last_objective)

    def strengthen(self, failed: Tensor) -> Tensor:
        """Raise the constant of the samples ``failed`` and return which cannot go higher."""
        norm = self.attack.norm
        self.const = torch.where(failed, self.const * CONST_GROWTH[norm], self.const)
        return failed & (self.const > LARGEST_CONST[norm])


class _LinfSearch(_Search):
    """All pixels that move more than tau are pulled back; tau follows the best image down."""

    def __init__(self, attack: CarliniWagner, goal: Goal) -> None:
        super().__init__(attack, goal)
        self.tau = torch.ones_like(self.const)

    def penalty(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """What sticks out beyond tau."""
        excess = (offset.abs() - _like(self.tau, offset)).clamp(min=0)
        return excess.flatten(1).sum(dim=1), offset.sign() * (excess > 0)

    def distance(self, offset: Tensor, penalty: Tensor) -> Tensor:
        """The largest change of a pixel."""
        return offset.flatten(1).abs().amax(dim=1)

    def note(self, image: Tensor, distance: Tensor, success: Tensor, offset: Tensor, grad: Tensor) -> None:
        """Lower tau as soon as it is kept, and start the clock again."""
        super().note(image, distance, success, offset, grad)
        solved = success & (distance <= self.tau)
        self.tau = torch.where(solved, TAU_DECAY * distance, self.tau)
        self.restart_clock(solved)

    def review(self) -> None:
        """Where tau could not be kept, the next descent starts at the best image with a larger constant."""
        ended = self.ended()
        self.over = self.strengthen(ended)
        self.start_descent(ended, self.best)


class _L0Search(_Search):
    """L2 descents over fewer and fewer pixels."""

    def __init__(self, attack: CarliniWagner, goal: Goal) -> None:
        super().__init__(attack, goal)
        self.free = torch.ones_like(self.x, dtype=torch.bool)
        self.kept_free, self.kept_const = self.free, self.const  # of the last success
        self.importance = torch.zeros_like(self.x)  # of each pixel for it
        self.share = torch.full_like(self.const, FIXED_SHARE)
        self.fixed = torch.ones_like(self.const)  # pixels at once

    def image(self, squashed: Tensor) -> Tensor:
        """Fixed pixels are those of the clean image, bit for bit."""
        return torch.where(self.free, super().image(squashed), self.x)

    def distance(self, offset: Tensor, penalty: Tensor) -> Tensor:
        """How many pixels changed."""
        return (offset.flatten(1) != 0).sum(dim=1).float()

    def note(self, image: Tensor, distance: Tensor, success: Tensor, offset: Tensor, grad: Tensor) -> None:
        """Keep the success with the fewest changes, and what each pixel did for it."""
        nearer = success & (distance < self.best_distance)
        self.importance = torch.where(_like(nearer, image), (offset * grad).abs(), self.importance)
        super().note(image, distance, success, offset, grad)

    def review(self) -> None:
        """Fix the least important pixels after a success; fix fewer where no constant succeeds any more."""
        ended, success = self.ended(), self.reached
        hopeless = self.strengthen(ended & ~success)
        self.over = hopeless & (self.fixed == 1)  # not one pixel less, or no success at all
        self.share = torch.where(hopeless, self.share / 2, self.share)
        self.kept_free = torch.where(_like(success, self.free), self.free, self.kept_free)
        self.kept_const = torch.where(success, self.const, self.kept_const)
        changed = success | hopeless
        self.const = torch.where(changed, self.kept_const, self.const)
        count = self.kept_free.flatten(1).sum(dim=1)
        self.fixed = torch.where(changed, (self.share * count).floor().clamp(min=1), self.fixed)
        importance = torch.where(self.kept_free, self.importance, torch.inf).flatten(1)
        rank = importance.argsort(dim=1, stable=True).argsort(dim=1).view_as(self.x)
        fewer = self.kept_free & (rank >= _like(self.fixed, rank))
        self.free = torch.where(_like(changed, fewer), fewer, self.free)
        self.start_descent(ended | success, self.best)


def _like(values: Tensor, images: Tensor) -> Tensor:
    """[N] shaped to go with [N, C, H, W]."""
    return values.view(-1, *[1] * (images.dim() - 1))
