"""An answer that is ever more certain: its loss fades to the smallest numbers, and no gradient becomes NaN."""

import pytest
import torch

from .problems import batch, smooth_net
from .test_labels import NEED_CLASSES, OBJECTIVES

LEADS = [0.0, 20.0, 60.0, 85.0, 90.0, 92.0, 94.0, 96.0, 98.0, 100.0, 102.0, 104.0, 120.0, 1e4]
"""Of the label's logit; exp(-88) is the smallest number that float32 has all digits of, exp(-104) is 0."""


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - NEED_CLASSES))
@pytest.mark.parametrize("right", [True, False])
def test_the_gradients_of_an_objective_are_finite_however_certain_the_answer(name, right):
    x, _ = batch()
    y = torch.full((len(x),), 0 if right else 1)
    for lead in LEADS:
        model = smooth_net()
        with torch.no_grad():
            list(model.parameters())[-1][0] += lead
        torch.manual_seed(3)
        loss, _ = OBJECTIVES[name](model, x, y)
        assert loss.isfinite(), lead
        loss.backward()
        wrong = [each for each in model.parameters() if each.grad is not None and not each.grad.isfinite().all()]
        assert not wrong, lead
