"""The sequential test keeps its error bounds and needs as many trials as Wald says; the paper's variants do not."""

import math

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from lightning_adv.detectors.sprt import SPRT, FixedSizeTest, Progress
from lightning_adv.errors import InputError

STREAMS = 4000


def run(test: SPRT, p: float, streams: int = STREAMS, limit: int = 200_000) -> Progress:
    """The test on independent Bernoulli streams of success probability ``p``."""
    generator = torch.Generator().manual_seed(int(1e6 * p))
    progress, left = Progress.start(streams), torch.arange(streams)
    while len(left) and progress.trials.max() < limit:
        outcomes = torch.rand(len(left), 40, generator=generator) < p
        progress.put(left, test.advance(progress.select(left), outcomes))
        left = left[progress.verdict[left] == 0]
    return progress


def share(progress: Progress, verdict: int) -> float:
    return (progress.verdict == verdict).double().mean().item()


def three_sigma(rate: float) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / STREAMS)


@pytest.mark.parametrize(("p0", "p1"), [(0.1, 0.12), (0.3, 0.5)])
@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 0.05), (0.01, 0.1)])
def test_errors_stay_within_their_bounds(p0, p1, alpha, beta):
    test = SPRT(p0, p1, alpha, beta)
    assert share(run(test, p0), 1) <= alpha / (1 - beta) + three_sigma(alpha)
    assert share(run(test, p1), -1) <= beta / (1 - alpha) + three_sigma(beta)


@pytest.mark.parametrize(
    ("p0", "p1", "p"),
    [(0.1, 0.12, p) for p in (0.0, 0.05, 0.1, 0.11, 0.12, 0.5)] + [(0.016, 0.0192, p) for p in (0.0, 0.1, 0.34)],
)
def test_the_expected_number_of_trials_is_walds(p0, p1, p):
    test = SPRT(p0, p1)
    assert run(test, p).trials.double().mean().item() == pytest.approx(test.expected_trials(p), rel=0.05)


@pytest.mark.parametrize("p", [0.1, 0.105, 0.11, 0.115])
def test_the_probability_of_accepting_the_null_hypothesis_is_walds(p):
    test = SPRT(0.1, 0.12)
    assert share(run(test, p), -1) == pytest.approx(test.acceptance(p), abs=0.02)


def test_the_two_hypotheses_are_accepted_with_the_probabilities_asked_for():
    test = SPRT(0.1, 0.12, alpha=0.03, beta=0.08)
    assert test.acceptance(0.1) == pytest.approx(0.97, abs=1e-6)
    assert test.acceptance(0.12) == pytest.approx(0.08, abs=1e-6)


def test_a_rate_of_zero_and_of_one_are_decided_after_a_known_number_of_trials():
    test = SPRT(0.016, 0.0192)
    assert run(test, 0.0, streams=1).trials.item() == 904 == math.ceil(test.expected_trials(0.0))
    assert run(test, 1.0, streams=1).trials.item() == 17 == math.ceil(test.expected_trials(1.0))


def test_the_authors_code_stops_far_too_early():
    wald, paper = SPRT(0.016, 0.0192), SPRT(0.016, 0.0192, mode="paper")
    never = run(paper, 0.0, streams=1)
    assert (never.trials.item(), paper.counted(never.trials).item()) == (30, 60)  # Wald: 904
    early, right = run(paper, 0.34), run(wald, 0.34)
    assert paper.counted(early.trials).double().mean().item() == pytest.approx(23, abs=1)
    assert right.trials.double().mean().item() == pytest.approx(50, abs=2)


def test_the_authors_code_breaks_its_error_bounds_and_walds_test_keeps_them():
    wald, paper = SPRT(0.016, 0.0192), SPRT(0.016, 0.0192, mode="paper")
    assert share(run(paper, 0.016), 1) > 0.09  # asked for: .05
    assert share(run(paper, 0.0192), -1) > 0.6
    assert share(run(wald, 0.016), 1) < 0.0527 + three_sigma(0.05)
    assert share(run(wald, 0.0192), -1) < 0.0527 + three_sigma(0.05)


def test_algorithm_1_as_printed_never_ends_where_no_label_changes_and_this_one_does():
    test = SPRT(0.016, 0.0192)
    ratio, stopped = 0.0, None
    for n in range(1, 100_001):  # lines 4 to 15 of the paper
        ratio += test.failure
        changed = False
        if changed and not test.lower < ratio < test.upper:
            stopped = n
    assert stopped is None
    assert ratio < 100 * test.lower, "the ratio had said normal for long"
    assert run(test, 0.0, streams=1).verdict.item() == -1


@pytest.mark.parametrize("mode", ["wald", "paper"])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_decide_as_one_trial_after_the_other(mode, block):
    test = SPRT(0.1, 0.15, mode=mode)
    generator = torch.Generator().manual_seed(0)
    outcomes = torch.rand(60, 640, generator=generator) < torch.linspace(0, 0.5, 60)[:, None]
    progress, left = Progress.start(60), torch.arange(60)
    for start in range(0, 640, block):
        part = outcomes[left, start : start + block]
        progress.put(left, test.advance(progress.select(left), part))
        left = left[progress.verdict[left] == 0]
    expected = [one_at_a_time(test, stream) for stream in outcomes]
    found = zip(progress.verdict.tolist(), progress.trials.tolist(), progress.successes.tolist(), strict=True)
    assert list(found) == expected
    assert len({verdict for verdict, _, _ in expected}) >= 2


def one_at_a_time(test: SPRT, stream: Tensor) -> tuple[int, int, int]:
    successes = summed = 0
    for n, success in enumerate(stream.tolist(), start=1):
        successes += success
        summed += successes
        c, trials = (summed, n * (n + 1)) if test.mode == "paper" else (successes, n)
        ratio = c * test.success + (trials - c) * test.failure
        if ratio >= test.upper:
            return 1, n, successes
        if ratio <= test.lower:
            return -1, n, successes
    return 0, n, successes


@pytest.mark.parametrize(("p0", "p1", "alpha", "beta"), [(0.1, 0.12, 0.05, 0.05), (0.1, 0.3, 0.01, 0.1)])
def test_the_fixed_size_test_is_the_smallest_that_keeps_its_bounds(p0, p1, alpha, beta):
    test = FixedSizeTest(p0, p1, alpha, beta)
    assert binom.sf(test.limit, test.trials, p0) <= alpha
    assert binom.cdf(test.limit, test.trials, p1) <= beta
    for fewer in range(max(1, test.trials - 150), test.trials):
        limit = binom.ppf(1 - alpha, fewer, p0)
        assert binom.cdf(limit, fewer, p1) > beta


def test_the_sequential_test_needs_fewer_trials_than_the_fixed_one():
    sequential, fixed = SPRT(0.1, 0.12), FixedSizeTest(0.1, 0.12)
    assert max(sequential.expected_trials(p) for p in (0.1, 0.12)) < 0.7 * fixed.trials


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.2, 0.1), "p0 < p1"),
        ((0.0, 0.1), "0 < p0"),
        ((0.5, 1.0), "p1 < 1"),
        ((0.1, 0.2, 0.5, 0.5), "sum below 1"),
        ((0.1, 0.2, 0.05, 0.05, "wild"), "wald or paper"),
    ],
)
def test_hypotheses_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        SPRT(*arguments)
