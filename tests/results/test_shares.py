import math
from statistics import NormalDist

import pytest

from lightning_adv.results.shares import percent, percent_interval, wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 1), (7, 10), (80, 100), (9999, 10000), (10, 10)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_ends_are_the_shares_that_a_score_test_just_allows(successes, trials, confidence):
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / trials
    for end in wilson_interval(successes, trials, confidence):
        assert 0 <= end <= 1
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / trials, abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 10), (11, 10), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes, trials):
    with pytest.raises(ValueError, match="of"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (1, "100.0%"), (0.79849, "79.8%"), (None, "\N{EN DASH}"), (math.nan, "\N{EN DASH}")],
)
def test_a_percentage_has_one_decimal(share, text):
    assert percent(share) == text


def test_an_interval_shows_both_ends():
    assert percent_interval((0.7112, 0.8666)) == "71.1\N{EN DASH}86.7%"
    assert percent_interval(None) == "\N{EN DASH}"
