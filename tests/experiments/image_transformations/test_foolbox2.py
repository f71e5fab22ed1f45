"""Attacks that search their budget, where the smallest that fools is known."""

import pytest
import torch
from torch import nn

from experiments.image_transformations.foolbox2 import SearchedFGSM, SearchedPGD

X = torch.tensor([0.6105, 0.5051, 0.9505, 0.2995, 0.7])[:, None, None, None]
Y = torch.tensor([0, 0, 0, 1, 1])  # the last is wrong as it is
MARGINS = [0.1105, 0.0051, 0.4505, 0.2005, 0]


def brightness() -> nn.Module:
    """Images of one pixel: class 0 above .5."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    model[1].weight.data, model[1].bias.data = torch.tensor([[4.0], [-4.0]]), torch.tensor([0.0, 4.0])
    return model


def moved(result) -> list[float]:
    """By how much each pixel was changed."""
    return (result.images - X).abs().flatten().tolist()


def test_fgsm_takes_the_first_of_its_budgets_that_fools_and_finer_ones_where_the_first_are_too_large():
    result = SearchedFGSM().run(brightness(), X, Y)
    assert result.success.all()
    assert moved(result) == pytest.approx([0.111, 0.0054, 0.451, 0.201, 0], abs=1e-5)


def test_fgsm_leaves_an_image_that_no_budget_fools():
    one_sided = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    one_sided[1].weight.data, one_sided[1].bias.data = torch.tensor([[0.1], [-0.1]]), torch.tensor([1.0, -1.0])
    result = SearchedFGSM(budgets=10).run(one_sided, X[:2], Y[:2])
    assert not result.success.any()
    assert torch.equal(result.images, X[:2])


def test_fgsm_finds_a_success_that_larger_budgets_lose():
    """Class 1 within (.3, .4) alone: from .5, a budget of .11 fools, finer ones of .1045 too, .3 does not."""

    class Band(nn.Module):
        def forward(self, image):
            inside = 0.05 - (image.flatten(1) - 0.35).abs()
            return torch.cat([torch.zeros_like(inside), inside], dim=1)

    x = torch.full((1, 1, 1, 1), 0.5)
    result = SearchedFGSM(budgets=100).run(Band(), x, torch.tensor([0]))
    assert result.success.all()
    assert float(x - result.images) == pytest.approx(0.1045, abs=1e-4)


def test_bisection_closes_in_on_the_distance_of_the_boundary_from_either_side():
    """.3 is too large for the first image and too small for the third."""
    result = SearchedPGD(start=False).run(brightness(), X, Y)
    assert result.success.all()
    assert moved(result) == pytest.approx(MARGINS, abs=1e-5)


def test_random_starts_end_no_more_than_a_step_behind_the_boundary():
    result = SearchedPGD().run(brightness(), X, Y)
    assert result.success.all()
    assert moved(result) == pytest.approx(MARGINS, abs=0.02)
    assert not torch.equal(result.images, SearchedPGD(seed=1).run(brightness(), X, Y).images)


@pytest.mark.parametrize("attack", [SearchedFGSM(budgets=50), SearchedPGD(steps=10)])
def test_an_image_is_attacked_as_it_is_alone(attack):
    torch.manual_seed(0)
    model, index = nn.Sequential(nn.Flatten(), nn.Linear(9, 12), nn.Tanh(), nn.Linear(12, 3)), torch.arange(4)
    x = torch.rand(4, 1, 3, 3)
    y = model(x).argmax(dim=1)
    together = attack.run(model, x, y, index=index)
    alone = [attack.run(model, x[i : i + 1], y[i : i + 1], index=index[i : i + 1]).images for i in range(4)]
    assert torch.allclose(together.images, torch.cat(alone), atol=1e-6)
    assert together.success.any()
    assert {"budgets=50", "steps=10"} & set(repr(attack).strip(")").replace("(", ", ").split(", "))
