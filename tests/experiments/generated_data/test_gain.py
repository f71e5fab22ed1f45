"""What generated images gain is told with an interval over images, not over verdicts."""

import pytest

from experiments.generated_data.__main__ import gain


def verdicts(*seeds):
    return [{"robust": list(each), "clean": 0, "training": 0} for each in seeds]


def test_the_gain_is_that_of_the_mean_over_seeds_and_its_interval_that_of_a_mean_over_images():
    mean, (low, high) = gain(verdicts([1, 0, 0, 1], [1, 0, 0, 0]), verdicts([1, 1, 1, 1], [1, 0, 1, 0]))
    assert mean == pytest.approx((0 + 0.5 + 1 + 0) / 4)
    deviation = (sum((each - 0.375) ** 2 for each in (0, 0.5, 1, 0)) / 3) ** 0.5
    assert (low, high) == pytest.approx((mean - 1.96 * deviation / 2, mean + 1.96 * deviation / 2))


def test_a_seed_that_says_the_same_again_makes_the_interval_no_narrower():
    before, after = [1, 0, 0, 1, 0], [1, 1, 0, 1, 1]
    once, thrice = gain(verdicts(before), verdicts(after)), gain(verdicts(*3 * [before]), verdicts(*3 * [after]))
    assert thrice[0] == pytest.approx(once[0])
    assert thrice[1] == pytest.approx(once[1])
