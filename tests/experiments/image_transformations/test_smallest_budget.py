"""Attacks with growing budgets."""

import pytest
import torch
from torch import nn

from experiments.image_transformations.smallest_budget import SmallestBudget
from lightning_adv.attacks import FGSM


def brightness() -> nn.Module:
    """Images of one pixel: class 0 above .5."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    model[1].weight.data, model[1].bias.data = torch.tensor([[4.0], [-4.0]]), torch.tensor([0.0, 4.0])
    return model


def test_an_image_is_changed_by_the_first_budget_that_fools_and_left_where_none_does():
    attack = SmallestBudget(FGSM(0.3), budgets=10)  # .03, .06, .09, ...
    x = torch.tensor([0.61, 0.52, 0.95, 0.3])[:, None, None, None]
    result = attack.run(brightness(), x, torch.tensor([0, 0, 0, 1]))
    assert result.success.tolist() == [True, True, False, True]
    assert result.images.flatten()[[0, 1, 3]].tolist() == pytest.approx([0.49, 0.49, 0.51])


def test_it_says_what_it_is_with_the_largest_budget():
    attack = SmallestBudget(FGSM(0.3), budgets=10)
    assert (attack.eps, attack.scaled(0.5).eps, attack.scaled(0.5).budgets) == (0.3, 0.15, 10)
    assert "budgets=10" in repr(attack)
