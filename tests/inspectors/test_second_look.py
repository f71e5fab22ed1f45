import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t

from lightning_adv.errors import InputError
from lightning_adv.inspectors import (
    ClassTrigger,
    InspectionReport,
    compare,
    find_largest,
    find_outliers,
    second_look,
)

CLASSES = 10
NATURE = np.array([60.0, 150, 55, 50, 100, 45, 80, 95, 15, 90])
"""Norms of honest networks: class 8 is small by nature."""


def report(norms, measure="norm"):
    mask = torch.ones(1, 28, 28)
    triggers = tuple(ClassTrigger(k, mask, mask, float(n), 1.0, "converged", 9) for k, n in enumerate(norms))
    large = measure != "norm"
    outliers = (find_largest if large else find_outliers)(list(norms))
    return InspectionReport("one", triggers, outliers, measure=measure, large=large)


def honest(seed, **changed):
    noise = np.exp(0.1 * np.random.default_rng(seed).normal(size=CLASSES))
    norms = NATURE * noise
    for label, norm in changed.items():
        norms[int(label[1:])] = norm
    return {"nc": report(norms)}


REFERENCES = [honest(seed) for seed in range(5)]


def test_a_class_that_is_small_by_nature_is_flagged_alone_and_not_beside_references():
    suspect = honest(50)
    assert suspect["nc"].flagged == [8] or min(suspect["nc"].norms) == suspect["nc"].norms[8]
    assert second_look(suspect, REFERENCES).flagged == []


def test_a_backdoor_that_is_no_outlier_among_its_own_norms_stands_out_beside_references():
    suspect = honest(50, k1=40.0)
    assert suspect["nc"].significant == []
    assert second_look(suspect, REFERENCES).flagged == [1]


def test_the_index_is_the_distance_from_the_references_in_their_own_deviations():
    values, references = np.zeros((1, 4)), np.array([[[1.0, 0, 0, -1]], [[-1.0, 0, 0, 1]]])
    values[0, 0] = 6.0
    look = compare(values, references)
    # In units of its spread, sqrt(4 / 3), the references' own is 1.
    assert look.index == pytest.approx([6 / math.sqrt(4 / 3) / math.sqrt(1.5), 0, 0, 0])
    assert look.p_values[0] == pytest.approx(4 * t.sf(look.index[0], 3))
    assert look.flagged == ([0] if look.p_values[0] <= 0.05 else [])


@pytest.mark.parametrize("count", [2, 5])
def test_honest_networks_are_seldom_flagged(count):
    generator = np.random.default_rng(0)
    draws = 3 + 0.3 * generator.normal(size=(800, count + 1, 1, CLASSES))
    assert np.mean([bool(compare(each[0], each[1:]).flagged) for each in draws]) < 0.05
    draws[:, 0, 0, 3] += 8 * 0.3
    assert np.mean([compare(each[0], each[1:]).flagged == [3] for each in draws]) > 0.8


@pytest.mark.parametrize("classes", [10, 43])
def test_honest_networks_that_differ_a_little_more_than_the_references_are_flagged_at_the_level_too(classes):
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(800, 5, 1, classes))
    draws[:, 0] += 1.5 * generator.normal(size=(800, 1, classes))
    looks = [compare(each[0], each[1:]) for each in draws]
    assert np.mean([look.comparable for look in looks]) > 0.4
    assert np.mean([bool(look.flagged) for look in looks]) < 0.07


@pytest.mark.parametrize("count", [4, 8])
def test_honest_networks_of_another_kind_than_the_references_are_seldom_flagged_and_it_is_said(count):
    generator = np.random.default_rng(0)
    nature = generator.normal(size=(400, 1, 1, CLASSES))  # which the references, who learnt little, do not show
    draws = 0.1 * generator.normal(size=(400, count + 1, 1, CLASSES))
    draws[:, :1] += nature
    looks = [compare(each[0], each[1:]) for each in draws]
    assert np.mean([bool(look.flagged) for look in looks]) < 0.06
    assert np.mean([look.comparable for look in looks]) < 0.02
    draws[:, 0, 0, 3] += 10
    assert np.mean([look.flagged == [3] for look in (compare(each[0], each[1:]) for each in draws)]) > 0.8


def test_references_of_the_same_kind_are_seldom_said_to_be_of_another():
    generator = np.random.default_rng(0)
    looks = [compare(each[0], each[1:]) for each in generator.normal(size=(400, 6, 1, CLASSES))]
    assert np.mean([look.comparable for look in looks]) > 0.95


def test_of_two_classes_the_references_alone_tell():
    references = np.array([[[1.0, 0]], [[-1.0, 0]], [[0.0, 0]]])
    look = compare(np.array([[40.0, 0]]), references)
    assert look.comparable
    assert look.flagged == [0]


def test_inspectors_are_weighed_by_how_far_honest_networks_differ_in_what_they_judge():
    generator = np.random.default_rng(0)
    references = generator.normal(size=(6, 2, CLASSES)) * np.array([1.0, 100.0])[:, None]
    values = generator.normal(size=(2, CLASSES)) * np.array([1.0, 100.0])[:, None]
    one, other = compare(values, references), compare(values * [[1.0], [50.0]], references * [[1.0], [50.0]])
    assert one.index == pytest.approx(other.index)


def test_margins_shares_and_norms_count_in_the_direction_in_which_they_are_suspicious():
    for measure, honestly, backdoor in (("margin", 20.0, 90.0), ("share", 0.0, 0.9), ("norm", 60.0, 5.0)):
        values = np.full(CLASSES, honestly)
        references = [{"one": report(values * (1 + 0.01 * (np.arange(CLASSES) % 3)), measure)} for _ in range(3)]
        values[4] = backdoor
        assert second_look({"one": report(values, measure)}, references).flagged == [4]


def test_a_class_without_a_trigger_counts_as_the_whole_image_and_breaks_nothing():
    suspect = honest(3, k2=math.inf, k3=math.nan, k5=0.0)
    look = second_look(suspect, REFERENCES)
    assert all(math.isfinite(index) for index in look.index)
    assert look.flagged == [5]
    assert look.index[2] < 0


def test_one_reference_and_another_number_of_classes_are_refused():
    with pytest.raises(InputError, match="at least 2 networks of your own, got 1"):
        second_look(honest(0), REFERENCES[:1])
    other = {"nc": replace(report(NATURE[:6]))}
    with pytest.raises(InputError, match=r"different numbers of classes: \[6, 10\]"):
        second_look(other, REFERENCES)
