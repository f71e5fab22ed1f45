"""Papernot's step against a hyperplane, in closed form on a linear model."""

import torch
from torch import nn

from lightning_adv.attacks import HyperplaneAttack


def linear() -> nn.Sequential:
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0, 0, 0], [0, 0, 1.0, 0], [0, -2.0, 0, 0]]))
    return nn.Sequential(nn.Flatten(), layer)


def test_the_step_is_eps_along_the_normal_of_the_label():
    x = torch.full((2, 1, 2, 2), 0.5)
    moved = HyperplaneAttack(eps=0.1)(linear(), x, torch.tensor([0, 2])) - x
    torch.testing.assert_close(moved.flatten(1), 0.1 * torch.tensor([[-0.6, -0.8, 0, 0], [0, 1.0, 0, 0]]))


def test_a_target_is_approached():
    x = torch.full((1, 1, 2, 2), 0.5)
    moved = HyperplaneAttack(eps=0.1)(linear(), x, torch.tensor([0]), target=torch.tensor([1])) - x
    torch.testing.assert_close(moved.flatten(1), torch.tensor([[0, 0, 0.1, 0]]))


def test_a_class_without_a_normal_leaves_the_image():
    x = torch.rand(1, 1, 2, 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    assert torch.equal(HyperplaneAttack(eps=1.0)(model, x, torch.tensor([0])), x)
