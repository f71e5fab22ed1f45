"""Label change rate under random mutations (nMutant; Wang et al., Detecting Adversarial Samples of DNNs, 2018).

kappa(x) = share of mutations x_m of x with f(x_m) != f(x);  adversarial where kappa(x) > mu kappa_1

The test of that hypothesis has p0 = mu kappa_1 - sigma and p1 = mu kappa_1 + sigma, sigma = kappa_1 (mu - 1).
Algorithm 1 as printed looks at the ratio only after a label change, so a label that never changes is never decided;
here it is looked at after every mutation.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, Self

import torch
from torch import Tensor

from lightning_adv.asking import NO_CLASS
from lightning_adv.attacks.oracle import LabelOracle, predicted_labels
from lightning_adv.detectors.detector import Detector, Evidence, Verdict, upper_quantile
from lightning_adv.detectors.mutation import Mutation, PaperMutation, mutation_noise
from lightning_adv.detectors.sprt import SPRT, FixedSizeTest, Progress, SPRTMode
from lightning_adv.errors import InputError, at_least_one

__all__ = ["LabelChangeRate"]

BLOCK = 64
"""Most mutations of a sample in one forward: what is computed past the decision is thrown away."""

SMALLEST_MU = 1.1


class LabelChangeRate(Detector):
    """Black box: asks for labels only, of many small random changes of the image.

    ``score`` is the label change rate over ``mutations`` mutations. ``decide`` is the test, which stops as soon as the
    rate is known to be low or high, or has a fixed size; the score of its verdict is the rate over its own mutations.

    Args:
        mutation: what changes the image; default the paper's operator with region 1. ``AffineMutation`` told samples of
            photographs better, ``SmoothMutation`` those of digits (docs/results, nMutant).
        kappa_1: label change rate of normal images; None until :meth:`calibrate` (the paper: MNIST .016, CIFAR-10 .1).
        mu: images count as adversarial from mu * kappa_1 on; above 1 (the paper: MNIST 1.1, CIFAR-10 1.01).
        sigma: half the width of the indifference region; default kappa_1 (mu - 1), then p0 = kappa_1.
        alpha: bound on calling an image of rate p0 adversarial.
        beta: bound on calling an image of rate p1 normal.
        test: "sprt" or "fixed" (the fixed-size test with these error bounds).
        sprt: "wald", or "paper" for what the authors' code computes (see ``SPRT``).
        mutations: of an image, for ``score``.
        max_mutations: after which ``decide`` leaves an image undecided.
        batch_size: mutations in one forward; on a CPU, more than fit into its cache are slower.
        seed: of the mutations.

    Raises:
        InputError: a rate, mu, sigma or error bound out of range.

    Example:
        >>> from lightning_adv.detectors import UniformMutation
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> detector = LabelChangeRate(UniformMutation(0.1), kappa_1=0.02, mu=2.0)
        >>> verdict = detector.decide(model, torch.rand(2, 1, 4, 4))
        >>> bool((verdict.changes <= verdict.mutations).all())
        True
    """

    def __init__(
        self,
        mutation: Mutation | None = None,
        kappa_1: float | None = None,
        mu: float = 1.1,
        sigma: float | None = None,
        alpha: float = 0.05,
        beta: float = 0.05,
        test: Literal["sprt", "fixed"] = "sprt",
        sprt: SPRTMode = "wald",
        mutations: int = 500,
        max_mutations: int = 5000,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        at_least_one(mutations=mutations, max_mutations=max_mutations, batch_size=batch_size)
        if test not in ("sprt", "fixed"):
            raise InputError(f"test must be sprt or fixed, got {test!r}")
        self.mutation = mutation or PaperMutation()
        self.kappa_1, self.mu, self.sigma = kappa_1, mu, sigma
        self.alpha, self.beta, self.test, self.sprt = alpha, beta, test, sprt
        self.mutations, self.max_mutations, self.batch_size, self.seed = mutations, max_mutations, batch_size, seed
        SPRT(0.1, 0.2, alpha, beta, sprt)  # refuses what has nothing to do with kappa_1
        if mu <= 1:
            raise InputError(f"mu must be above 1, got {mu}: an image counts as adversarial from mu * kappa_1 on")
        if kappa_1 is not None:
            self.hypotheses()

    @property
    def threshold(self) -> float | None:
        """mu * kappa_1: from which label change rate on an image is suspicious."""
        return None if self.kappa_1 is None else self.mu * self.kappa_1

    def hypotheses(self) -> tuple[float, float]:
        """p0 and p1 of the test.

        Raises:
            InputError: kappa_1 is unknown or out of range, or the indifference region leaves (0, 1).
        """
        if self.kappa_1 is None:
            raise InputError("kappa_1 of LabelChangeRate is unknown: give it, or call calibrate(model, clean_loader)")
        if not 0 < self.kappa_1 < 1:
            raise InputError(
                f"kappa_1 is the label change rate of normal images and must lie in (0, 1), got {self.kappa_1}"
            )
        sigma = self.kappa_1 * (self.mu - 1) if self.sigma is None else self.sigma
        p0, p1 = self.mu * self.kappa_1 - sigma, self.mu * self.kappa_1 + sigma
        if not 0 < p0 < p1 < 1:
            raise InputError(
                f"the test needs 0 < p0 < p1 < 1, got p0={p0:.4g}, p1={p1:.4g} from kappa_1={self.kappa_1:.4g}, "
                f"mu={self.mu:.4g}, sigma={sigma:.4g} (mu * kappa_1 -+ sigma); lower mu or sigma"
            )
        return p0, p1

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model that says neither labels nor logits."""
        predicted_labels(model, x)

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Label change rates [N, 1]."""
        own = predicted_labels(model, x)
        changes = torch.zeros(len(x), device=x.device)
        at_once = max(1, self.batch_size // len(x))
        for start in range(0, self.mutations, at_once):
            draws = torch.arange(start, min(start + at_once, self.mutations), device=x.device)
            changes = changes + self._outcomes(model, x, own, index, draws.expand(len(x), -1)).sum(dim=1)
        return (changes / self.mutations)[:, None]

    def examine(self, model: LabelOracle, x: Tensor, *, index: Tensor | None = None) -> Evidence:
        """The rate over ``mutations`` mutations, and what the test says."""
        test = self.decide(model, x, index=index)
        told = {"suspicious": test.suspicious, "mutations": test.mutations, "undecided": test.undecided}
        return replace(super().examine(model, x, index=index), **told)

    def judge(self, evidence: Evidence) -> Verdict:
        """What the test said, with the rate over ``mutations`` mutations for a score."""
        told = {"suspicious": evidence.suspicious, "mutations": evidence.mutations, "undecided": evidence.undecided}
        return Verdict(score=self.combine(evidence.measures), **told)

    def decide(self, model: LabelOracle, x: Tensor, *, index: Tensor | None = None) -> Verdict:
        """Test each image, many mutations of all undecided ones in one forward.

        Verdicts and counts are those of testing one mutation of one image after the other.
        """
        p0, p1 = self.hypotheses()
        with self.watching(model, x, index) as (x, index):
            own = predicted_labels(model, x)
            if self.test == "fixed":
                return self._fixed(model, x, own, index, FixedSizeTest(p0, p1, self.alpha, self.beta))
            test, progress = SPRT(p0, p1, self.alpha, self.beta, self.sprt), Progress.start(len(x), x.device)
            left = torch.arange(len(x), device=x.device)
            done = 0
            while len(left) and done < self.max_mutations:
                at_once = min(BLOCK, max(1, self.batch_size // len(left)), self.max_mutations - done)
                draws = torch.arange(done, done + at_once, device=x.device).expand(len(left), -1)
                outcomes = self._outcomes(model, x[left], own[left], index[left], draws)
                progress.put(left, test.advance(progress.select(left), outcomes))
                done += at_once
                left = left[progress.verdict[left] == 0]
        return self._verdict(progress.verdict, progress.trials, progress.successes, bounded=self.sprt == "wald")

    def calibrate(self, model: LabelOracle, loader: Iterable, false_positive_rate: float = 0.05) -> Self:
        """Set kappa_1 to the mean rate of clean images and mu so that this share of them lies above mu * kappa_1.

        A mean of 0 is taken for one change in all mutations made, a threshold of 0 for one change in ``mutations``.
        """
        rates = self.clean_scores(model, loader)
        self.kappa_1 = max(rates.mean().item(), 1 / (len(rates) * self.mutations))
        limit = max(upper_quantile(rates, false_positive_rate), 1 / self.mutations)
        self.mu = max(min(limit, 0.4999 * (1 + self.kappa_1)) / self.kappa_1, SMALLEST_MU)  # keeps p1 below 1
        self.hypotheses()
        return self

    def _fixed(self, model: LabelOracle, x: Tensor, own: Tensor, index: Tensor, test: FixedSizeTest) -> Verdict:
        if test.trials > self.max_mutations:
            raise InputError(
                f"the fixed-size test with these error bounds needs {test.trials:,} mutations, more than "
                f"max_mutations={self.max_mutations:,}; raise it, raise mu or sigma, or use test=sprt"
            )
        changes = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        at_once = max(1, self.batch_size // len(x))
        for start in range(0, test.trials, at_once):
            draws = torch.arange(start, min(start + at_once, test.trials), device=x.device)
            changes += self._outcomes(model, x, own, index, draws.expand(len(x), -1)).sum(dim=1)
        verdict = torch.where(changes > test.limit, 1, -1)
        return self._verdict(verdict, torch.full_like(changes, test.trials), changes, bounded=True)

    def _outcomes(self, model: LabelOracle, x: Tensor, own: Tensor, index: Tensor, draws: Tensor) -> Tensor:
        """[N, T] bool, whether mutation ``draws`` [N, T] of each image [N, C, H, W] changes its label ``own`` [N]."""
        each = draws.shape[1]
        noise = mutation_noise(self.seed, index.repeat_interleave(each), draws.flatten())
        mutants = self.mutation(x.repeat_interleave(each, dim=0), noise)
        said = predicted_labels(model, mutants).view(-1, each)
        return (said != own[:, None]) | (said == NO_CLASS)  # what names no class keeps none

    def _verdict(self, verdict: Tensor, mutations: Tensor, changes: Tensor, bounded: bool) -> Verdict:
        if self.test == "fixed":
            wrong_alarm, missed = self.alpha, self.beta
        else:  # Wald's exact bounds
            wrong_alarm, missed = self.alpha / (1 - self.beta), self.beta / (1 - self.alpha)
        bound = torch.where(verdict > 0, wrong_alarm, missed)
        bound = torch.where(verdict == 0, torch.nan, bound) if bounded else torch.full_like(bound, torch.nan)
        return Verdict(verdict > 0, changes / mutations, mutations, verdict == 0, changes, bound)
