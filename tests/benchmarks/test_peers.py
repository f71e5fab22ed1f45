"""The peers' attacks as functions of (model, images, labels)."""

import pytest
import torch
from torch import nn

from benchmarks.peers import bare_passes, of_foolbox, of_torchattacks
from experiments.cost import Counted


def test_bare_passes_are_as_many_as_the_steps_and_a_last_look():
    counted, x = Counted(nn.Sequential(nn.Flatten(), nn.Linear(4, 3))), torch.rand(5, 1, 2, 2)
    assert torch.equal(bare_passes(4)(counted, x, torch.arange(5) % 3), x)
    assert (counted.forwards, counted.backwards) == (25, 20)


def test_a_peer_is_given_the_model_and_its_settings():
    class Shift:
        def __init__(self, model, eps):
            self.model, self.eps = model, eps

        def __call__(self, x, y):
            return x + self.eps

    x, y = torch.rand(3, 1, 2, 2), torch.arange(3)
    assert torch.equal(of_torchattacks(Shift, eps=0.25)(nn.Flatten(), x, y), x + 0.25)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # foolbox imports names that scipy has deprecated
def test_where_a_peer_without_a_budget_fails_the_clean_image_counts():
    x, y = torch.rand(2, 1, 2, 2), torch.arange(2)
    success = torch.tensor([True, False])

    def black(model, x, y, epsilons):
        return None, torch.zeros_like(x), success

    made = of_foolbox(black)(nn.Flatten(), x, y)
    assert torch.equal(made, torch.where(success[:, None, None, None], 0.0, x))
    assert torch.equal(of_foolbox(black, 0.1)(nn.Flatten(), x, y), torch.zeros_like(x))
