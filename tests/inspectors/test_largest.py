import math

import numpy as np
import pytest
from scipy.stats import gamma, t

from lightning_adv.errors import InputError
from lightning_adv.inspectors import find_largest

VALUES = [5.0, 5.4, 4.5, 5.1, 4.9, 5.3, 7.0]


def test_the_index_is_the_distance_from_the_others_in_their_own_uncertain_spread():
    others = np.array(VALUES[:-1])
    found = find_largest(VALUES)
    assert found.index[-1] == pytest.approx((7 - others.mean()) / (others.std(ddof=1) * math.sqrt(1 + 1 / 6)))
    assert found.p_values[-1] == pytest.approx(7 * t.sf(found.index[-1], 5))
    assert found.significant == (6,)
    assert found.index[2] < 0


def test_the_papers_verdict_is_that_of_a_gamma_distribution_without_the_largest():
    shape, place, scale = gamma.fit(VALUES[:-1])
    chance = 1 - gamma.cdf(7.0, shape, place, scale) ** 7
    assert float(find_largest(VALUES).detail.split()[0]) == pytest.approx(chance, rel=0.05, abs=1e-12)
    assert find_largest(VALUES).flagged == (6,)
    assert find_largest(VALUES[:-1]).flagged == ()


@pytest.mark.parametrize("classes", [6, 10, 43])
def test_the_corrected_verdict_flags_clean_models_at_its_level(classes, monkeypatch):
    monkeypatch.setattr("lightning_adv.inspectors.largest._by_gamma", lambda *_: 1.0)
    draws = np.random.default_rng(0).normal(20, 3, (1200, classes))
    assert np.mean([bool(find_largest(each).significant) for each in draws]) == pytest.approx(0.05, abs=0.02)


def test_the_papers_rule_flags_more_than_one_in_twenty_clean_models():
    draws = np.random.default_rng(0).normal(20, 3, (60, 10))
    assert np.mean([bool(find_largest(each).flagged) for each in draws]) > 0.1


def test_a_small_value_is_never_flagged_and_one_that_is_no_number_takes_no_part():
    assert find_largest([5.0, 5.1, 4.9, 5.2, -40.0]).significant == ()
    found = find_largest([math.nan, *VALUES])
    assert found.significant == (7,)
    assert math.isnan(found.index[0])
    assert found.index[1:] == find_largest(VALUES).index
    assert "1 of 8 values" in found.warnings[0]


def test_equal_values_accuse_nobody_and_one_above_them_stands_out():
    assert find_largest([0.0] * 6).significant == find_largest([0.0] * 6).flagged == ()
    assert find_largest([3.0] * 6).significant == find_largest([3.0] * 6).flagged == ()
    assert find_largest([3.0] * 6 + [4.0]).significant == find_largest([3.0] * 6 + [4.0]).flagged == (6,)


def test_three_values_have_no_verdict_and_none_are_a_mistake():
    assert find_largest([1.0, 2.0, 30.0]).flagged is None
    assert "4 are needed" in find_largest([1.0, 2.0, 30.0]).warnings[0]
    with pytest.raises(InputError, match="at least one class"):
        find_largest([])
