import math

import numpy as np
import pytest

from lightning_adv.errors import InputError
from lightning_adv.inspectors import anomaly_indices, find_outliers
from lightning_adv.inspectors.outliers import null_of_the_largest_index, why_no_verdict

INF, NAN = math.inf, math.nan


def test_the_index_is_the_distance_from_the_median_in_scaled_mads():
    # median 5.5 (of an even number), deviations .5 .5 1.5 1.5 2.5 2.5 3.5 4.5: their median is 2
    norms = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    mad = 2.5  # deviations .5 .5 1.5 1.5 2.5 | 2.5 3.5 3.5 4.5 4.5
    assert anomaly_indices(norms) == pytest.approx([abs(n - 5.5) / (1.4826 * mad) for n in norms])
    assert find_outliers(norms).median == 5.5


def test_only_small_norms_are_flagged():
    outliers = find_outliers([10.0, 11, 12, 13, 14, 100, 1])
    assert outliers.index[5] > 2
    assert outliers.flagged == (6,)
    assert outliers.p_values[5] == 1.0


def test_the_double_mad_measures_each_side_by_its_own_deviation():
    norms = [6.0, 9, 10, 30, 70]  # median 10; below: 4 1 0, median 1; above: 0 20 60, median 20
    assert anomaly_indices(norms, double=True) == pytest.approx(
        [4 / 1.4826, 1 / 1.4826, 0, 20 / 20 / 1.4826, 60 / 20 / 1.4826]
    )
    assert find_outliers(norms, double=True).flagged == (0,)
    assert find_outliers(norms).flagged == ()


def test_logarithms_flag_a_tiny_norm_that_the_spread_of_the_others_hides():
    norms = [100.0, 90, 85, 80, 78, 50, 45, 44, 0.5]  # even a norm of 0 has the index 78 / (1.4826 * 33)
    assert find_outliers(norms, double=True).flagged == ()
    judged = find_outliers(norms, double=True, logarithmic=True)
    assert judged.flagged == (8,)
    assert judged.median == pytest.approx(78)
    assert judged.index[8] == pytest.approx(np.log(78 / 0.5) / (1.4826 * np.log(78 / 45)))


def test_the_index_of_logarithms_does_not_know_the_unit_and_takes_a_norm_of_zero():
    norms = np.array([100.0, 90, 85, 80, 78, 55, 52, 50, 7])
    one, other = (find_outliers((unit * norms).tolist(), logarithmic=True).index for unit in (1, 255))
    assert one == pytest.approx(other)
    assert find_outliers([*norms, 0.0], logarithmic=True).index[9] < float("inf")


@pytest.mark.parametrize(("classes", "share"), [(10, 0.34), (43, 0.64), (100, 0.88)])
def test_the_papers_rule_flags_clean_models_as_often_as_is_known(classes, share):
    draws = np.random.default_rng(7).normal(60, 10, (1000, classes))
    flagged = np.mean([bool(find_outliers(norms).flagged) for norms in draws])
    assert flagged == pytest.approx(share, abs=0.035)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("classes", [5, 10, 43, 100])
def test_the_corrected_verdict_flags_clean_models_at_its_level(classes, double):
    draws = np.random.default_rng(3).normal(60, 10, (1000, classes))
    flagged = np.mean([bool(find_outliers(norms, double=double, alpha=0.1).significant) for norms in draws])
    assert flagged == pytest.approx(0.1, abs=0.025)


@pytest.mark.parametrize("classes", [10, 43, 100])
def test_chance_reaches_the_known_quantile(classes):
    assert 3.4 < np.quantile(null_of_the_largest_index(classes), 0.95) < 3.95


def test_the_p_value_falls_with_the_index_and_is_never_zero():
    norms = [50.0, 55, 60, 65, 70, 75, 80, 85, 90]
    values = [find_outliers([*norms, small]).p_value for small in (48, 30, 10, -1e6)]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 0.01


def test_a_class_without_a_trigger_ranks_above_all_others():
    norms = [5.0, 50, 55, 60, 65, INF, INF]
    outliers = find_outliers(norms)
    assert outliers.median == 60
    assert math.isnan(outliers.index[5])
    assert outliers.index[0] == pytest.approx(55 / (1.4826 * 10))  # deviations 0 5 5 10 55 inf inf
    assert find_outliers([*norms[:5], 1e9, 1e9]).index[0] == outliers.index[0]


def test_without_triggers_for_half_of_the_classes_there_is_no_verdict():
    outliers = find_outliers([5.0, 50, INF, INF])
    assert (outliers.flagged, outliers.significant) == (None, None)
    assert math.isnan(outliers.p_value)
    assert "no verdict: a trigger was found for 2 of 4" in outliers.warnings[0]


def test_a_norm_that_is_no_number_is_left_out_and_said_so():
    outliers, without = find_outliers([5.0, 50, NAN, 60, 70, 55]), find_outliers([5.0, 50, 60, 70, 55])
    assert math.isnan(outliers.index[2])
    assert [each for each in outliers.index if each == each] == list(without.index)
    assert outliers.p_value == without.p_value
    assert "1 of 6 norms" in outliers.warnings[0]


def test_equal_norms_are_judged_by_their_mean_deviation():
    outliers = find_outliers([10.0] * 9 + [1.0])  # mean absolute deviation .9
    assert outliers.index[9] == pytest.approx(9 / (1.2533 * 0.9))
    assert outliers.flagged == (9,)
    assert math.isnan(outliers.p_value)
    assert "MAD = 0" in outliers.warnings[0]


def test_norms_that_are_all_equal_have_no_outlier():
    assert find_outliers([3.0] * 5).index == (0.0,) * 5
    assert find_outliers([3.0] * 5).flagged == ()


def test_no_norm_is_a_mistake():
    with pytest.raises(InputError, match="at least one class"):
        find_outliers([])


@pytest.mark.parametrize(("double", "fewest"), [(False, 3), (True, 5)])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_norms_are_judged_from_the_number_on_at_which_one_can_be_an_outlier(double, fewest, logarithmic):
    for classes in range(1, 9):
        tiny_among_equals = [100.0 + 1e-3 * k for k in range(classes - 1)] + [1e-3]
        outliers = find_outliers(tiny_among_equals, double=double, logarithmic=logarithmic)
        if classes < fewest:
            assert (outliers.judged, outliers.flagged, outliers.significant) == (False, None, None)
            assert all(math.isnan(value) for value in (*outliers.index, *outliers.p_values, outliers.p_value))
            assert outliers.warnings[0].startswith(f"no verdict: of {classes} norm")
        else:
            assert outliers.flagged == (classes - 1,)


def test_the_corrected_verdict_can_flag_wherever_there_is_a_verdict():
    assert find_outliers([100.0, 100.1, 100.3, -1e9]).significant == (3,)
    assert find_outliers([100.0, 100.1, 100.3, 100.6, -1e9], double=True).significant == (4,)


@pytest.mark.parametrize("norms", [[1.0, 50, INF], [1.0, 50, 51, INF], [1.0, 50, 51, INF, INF]])
def test_classes_without_a_trigger_can_leave_too_few_norms_for_a_verdict(norms):
    for smallest in (1.0, -1e12):
        assert find_outliers([smallest, *norms[1:]]).flagged is None
    assert find_outliers([1.0, 50, 51, 52, INF]).flagged == (0,)


def test_norms_that_differ_too_much_for_any_trigger_to_be_flagged_are_said_to():
    norms = [100.0, 60, 30, 80, 10, 45, 20]  # median 45, MAD 25
    outliers = find_outliers(norms)
    assert outliers.flagged == ()
    assert outliers.reach == pytest.approx(45 / (1.4826 * 25))
    assert "one of norm 0 would have the index 1.21, and 2 is needed" in outliers.warnings[0]
    for smallest in (0.0, 1e-3, 5.0):
        assert find_outliers([smallest if norm == 10 else norm for norm in norms]).flagged == ()
    tight = find_outliers([60.0, 61, 62, 63, 64])
    assert tight.reach > tight.threshold
    assert tight.warnings == ()


def test_what_a_number_of_classes_excludes_is_known_before_the_search():
    assert [classes for classes in range(1, 50) if why_no_verdict(classes)] == [1, 2]
    assert why_no_verdict(2) == find_outliers([3.0, 70.0]).warnings
