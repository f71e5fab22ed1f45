"""A NaN predicts no class, whatever stands beside it."""

import pytest
import torch

from lightning_adv.asking import NO_CLASS, confident, is_right, predicted

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [torch.nan, 3.0, 2.0], [1.0, torch.nan, torch.nan], [torch.nan] * 3])


def test_the_highest_logit_is_the_class_and_a_row_with_a_nan_has_none():
    assert predicted(LOGITS).tolist() == [1, NO_CLASS, NO_CLASS, NO_CLASS]
    assert predicted(LOGITS).dtype == torch.int64


@pytest.mark.parametrize("label", [0, 1, 2])
def test_nothing_is_right_about_a_nan(label):
    assert is_right(LOGITS, label).tolist() == [label == 1, False, False, False]


def test_infinite_logits_are_no_nan():
    logits = torch.tensor([[-torch.inf, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]])
    assert predicted(logits).tolist() == [1, 0, 0]


def test_any_number_of_dimensions_may_come_before_the_classes():
    assert predicted(LOGITS.view(2, 2, 3)).tolist() == [[1, -1], [-1, -1]]
    assert is_right(LOGITS.view(2, 2, 3), torch.tensor([1, 1])).tolist() == [[True, False], [False, False]]


def test_a_confidence_without_a_class_is_nan():
    said, confidence = confident(LOGITS)
    assert said.tolist() == [1, -1, -1, -1]
    assert confidence.isnan().tolist() == [False, True, True, True]
    assert confidence[0] == LOGITS[0].softmax(dim=0)[1]
