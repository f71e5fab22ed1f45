"""Tests of a probability: Wald's sequential probability ratio test (1945) and the fixed-size test.

H0: p <= p0 against H1: p >= p1, after n trials with c successes

    log ratio = c log(p1 / p0) + (n - c) log((1 - p1) / (1 - p0))

accepts H1 at log((1 - beta) / alpha) or above, H0 at log(beta / (1 - alpha)) or below, and goes on between.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["SPRT", "FixedSizeTest", "Progress", "SPRTMode"]

SPRTMode = Literal["wald", "paper"]

LARGEST_EXPONENT = 50.0
"""Beyond it a test is certain to double precision."""


@dataclass
class Progress:
    """How far the tests of N samples have come.

    Args:
        verdict: [N] int8: 1 for H1, -1 for H0, 0 undecided.
        trials: [N] int64 trials made.
        successes: [N] int64 of them.
        summed: [N] int64 sum over the trials of the successes so far (what "paper" adds up).
    """

    verdict: Tensor
    trials: Tensor
    successes: Tensor
    summed: Tensor

    @classmethod
    def start(cls, samples: int, device: torch.device | str = "cpu") -> "Progress":
        """No trial yet."""
        zero = torch.zeros(samples, dtype=torch.int64, device=device)
        return cls(zero.to(torch.int8), zero, zero.clone(), zero.clone())

    def select(self, keep: Tensor) -> "Progress":
        """The tests at the positions ``keep``."""
        return Progress(self.verdict[keep], self.trials[keep], self.successes[keep], self.summed[keep])

    def put(self, at: Tensor, other: "Progress") -> None:
        """Replace the tests at the positions ``at``."""
        self.verdict[at], self.trials[at] = other.verdict, other.trials
        self.successes[at], self.summed[at] = other.successes, other.summed


class SPRT:
    """Sequential probability ratio test of many samples at once, looked at after every trial.

    ``mode="wald"`` is the test above. ``mode="paper"`` is what the code of nMutant (Wang et al., 2018) computes: every
    mutation counts as two, and the log ratios after each of them, which already are sums, are added up again; it stops
    far too early and its error bounds do not hold.

    Args:
        p0, p1: the hypotheses, 0 < p0 < p1 < 1.
        alpha: bound on accepting H1 where p <= p0 (to first order; exactly alpha / (1 - beta)).
        beta: bound on accepting H0 where p >= p1 (to first order; exactly beta / (1 - alpha)).
        mode: "wald" or "paper".

    Raises:
        InputError: hypotheses or error bounds out of range, an unknown mode.

    Example:
        >>> test = SPRT(0.1, 0.5)
        >>> test.advance(Progress.start(1), torch.tensor([[True, True, True, True]])).verdict.item()
        1
    """

    def __init__(self, p0: float, p1: float, alpha: float = 0.05, beta: float = 0.05, mode: SPRTMode = "wald") -> None:
        if not 0 < p0 < p1 < 1:
            raise InputError(f"a sequential test needs 0 < p0 < p1 < 1, got p0={p0:.4g}, p1={p1:.4g}")
        if not (0 < alpha < 1 and 0 < beta < 1 and alpha + beta < 1):
            raise InputError(f"alpha and beta must be positive with a sum below 1, got {alpha}, {beta}")
        if mode not in get_args(SPRTMode):
            raise InputError(f"sprt must be wald or paper, got {mode!r}")
        self.p0, self.p1, self.alpha, self.beta, self.mode = p0, p1, alpha, beta, mode
        self.upper, self.lower = math.log((1 - beta) / alpha), math.log(beta / (1 - alpha))
        self.success, self.failure = math.log(p1 / p0), math.log((1 - p1) / (1 - p0))

    def log_ratio(self, trials: Tensor, successes: Tensor, summed: Tensor) -> Tensor:
        """What is compared with the two bounds, in float64: from counts, so that it rounds the same in any order."""
        if self.mode == "paper":
            # sum over s = 1..t of the ratio with c_s successes among 2 s mutations
            trials, successes = trials * (trials + 1), summed
        return successes.double() * self.success + (trials - successes).double() * self.failure

    def advance(self, progress: Progress, outcomes: Tensor) -> Progress:
        """The tests after further trials: each stops at the first one at which a bound is reached.

        Args:
            progress: of N samples, all undecided.
            outcomes: [N, T] bool, the next trials of each sample in their order.
        """
        successes = progress.successes[:, None] + outcomes.cumsum(dim=1)
        trials = progress.trials[:, None] + torch.arange(1, outcomes.shape[1] + 1, device=outcomes.device)
        summed = progress.summed[:, None] + successes.cumsum(dim=1)
        ratio = self.log_ratio(trials, successes, summed)
        high = ratio >= self.upper
        crossed = high | (ratio <= self.lower)
        decided = crossed.any(dim=1)
        last = torch.where(decided, crossed.int().argmax(dim=1), outcomes.shape[1] - 1)[:, None]
        verdict = torch.where(decided, 2 * high.gather(1, last)[:, 0].to(torch.int8) - 1, 0).to(torch.int8)
        return Progress(verdict, *(each.gather(1, last)[:, 0] for each in (trials, successes, summed)))

    def counted(self, trials: Tensor) -> Tensor:
        """The number of mutations that the mode reports: "paper" counts each twice."""
        return 2 * trials if self.mode == "paper" else trials

    def acceptance(self, p: float) -> float:
        """Wald's probability of accepting H0 at success probability ``p`` (overshoot of the bounds neglected)."""
        h = self._exponent(p)
        if abs(h) < 1e-9:
            return self.upper / (self.upper - self.lower)
        return math.expm1(h * self.upper) / (math.exp(h * self.upper) - math.exp(h * self.lower))

    def expected_trials(self, p: float) -> float:
        """Wald's expected sample number at ``p`` (overshoot neglected).

        (L log B + (1 - L) log A) / (p log(p1/p0) + (1 - p) log((1-p1)/(1-p0))),  L the probability of accepting H0
        """
        drift = p * self.success + (1 - p) * self.failure
        if abs(drift) < 1e-12:
            variance = p * self.success**2 + (1 - p) * self.failure**2
            return -self.upper * self.lower / variance
        accept = self.acceptance(p)
        return (accept * self.lower + (1 - accept) * self.upper) / drift

    def _exponent(self, p: float) -> float:
        """The h other than 0 with p (p1/p0)^h + (1 - p) ((1-p1)/(1-p0))^h = 1, by bisection."""
        if not 0 < p < 1:  # the drift never turns round
            return math.copysign(LARGEST_EXPONENT, 0.5 - p)

        def excess(h: float) -> float:
            return p * math.exp(h * self.success) + (1 - p) * math.exp(h * self.failure) - 1

        drift = p * self.success + (1 - p) * self.failure
        if abs(drift) < 1e-12:
            return 0.0
        near, far = (1e-9, 1.0) if drift < 0 else (-1e-9, -1.0)  # the root lies on the side that the drift points from
        while excess(far) < 0 and abs(far) < LARGEST_EXPONENT:
            near, far = far, 2 * far
        for _ in range(100):
            middle = (near + far) / 2
            near, far = (middle, far) if excess(middle) < 0 else (near, middle)
        return far


class FixedSizeTest:
    """The fixed-size test of the same hypotheses: ``trials`` trials, H1 where more than ``limit`` of them succeed.

    The smallest size whose exact binomial errors are at most alpha at p0 and beta at p1.

    Args:
        p0, p1, alpha, beta: as for ``SPRT``.

    Example:
        >>> test = FixedSizeTest(0.1, 0.5)
        >>> test.trials, test.limit
        (13, 3)
    """

    def __init__(self, p0: float, p1: float, alpha: float = 0.05, beta: float = 0.05) -> None:
        from scipy.stats import binom

        SPRT(p0, p1, alpha, beta)  # the same arguments are refused
        low, high = 1, 1
        while not _suffices(binom, high, p0, p1, alpha, beta):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _suffices(binom, middle, p0, p1, alpha, beta) else (middle, high)
        # Sufficing is not monotone in the size, by a few trials: step back while smaller ones do as well.
        self.trials = next(n for n in range(max(1, high - 200), high + 1) if _suffices(binom, n, p0, p1, alpha, beta))
        self.limit = int(binom.ppf(1 - alpha, self.trials, p0))


def _suffices(binom: object, trials: int, p0: float, p1: float, alpha: float, beta: float) -> bool:
    return binom.cdf(binom.ppf(1 - alpha, trials, p0), trials, p1) <= beta
