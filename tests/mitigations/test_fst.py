"""FST draws the head anew, wherever it lies, and gives it its old length after every step."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.mitigations import FST
from lightning_adv.mitigations.fst import head
from tests.mitigations.problems import halves, hand_built, share, trained


def test_the_head_has_its_old_length_and_another_direction():
    model, (x, y) = hand_built(), halves(200)
    old = model[-1].weight.detach().clone()
    FST(epochs=2, alpha=0.01)(model, [(x, y)])
    new = model[-1].weight.detach()
    assert new.norm() == pytest.approx(old.norm().item(), rel=1e-5)
    assert F.cosine_similarity(new.flatten(), old.flatten(), dim=0) < 0.5


def test_a_step_is_the_gradient_of_both_terms_at_the_new_head():
    model, (x, y) = hand_built(), halves(5)
    chosen = torch.randperm(5, generator=torch.Generator().manual_seed(0))[1:]
    reference, old = hand_built(), model[-1].weight.detach().clone()
    drawn = 2 * torch.rand(old.shape, generator=torch.Generator().manual_seed(0)) - 1
    reference[-1].weight.data = drawn * old.norm() / drawn.norm()
    value = F.cross_entropy(reference(x[chosen]), y[chosen]) + 0.5 * (reference[-1].weight * old).sum()
    grads = torch.autograd.grad(value, list(reference.parameters()))
    with torch.no_grad():
        for weight, grad in zip(reference.parameters(), grads, strict=True):
            weight -= 1e-4 * grad
        reference[-1].weight *= old.norm() / reference[-1].weight.norm()
    FST(alpha=0.5, epochs=1, lr=1e-4, batch_size=4)(model, [(x, y)])
    for weight, each in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(weight, each, rtol=1e-5, atol=1e-6)


class Odd(nn.Module):
    """Its head is a convolution that is named first and runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.answer, self.body = nn.Conv2d(4, 2, 6), nn.Conv2d(1, 4, 1)

    def forward(self, x):
        return self.answer(self.body(x).relu()).flatten(1)


def test_the_head_is_the_layer_that_runs_last_and_gives_the_logits():
    model = Odd()
    assert head(model, halves()[0][:1]) is model.answer
    assert head(hand_built(), halves()[0][:1]).out_features == 2


def test_a_model_learns_again_what_the_new_head_needs():
    model, (x, y) = trained(), halves(200)
    old = model[-1].weight.detach().clone()
    FST(epochs=20)(model, [(x, y)])
    assert share(model, x, y) == 1.0
    assert F.cosine_similarity(model[-1].weight.flatten(), old.flatten(), dim=0) < 0.2


def test_models_and_numbers_that_do_not_suit_are_refused():
    with pytest.raises(InputError, match="must give the 2 logits"):
        FST()(nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Unflatten(1, (2, 2)), nn.Flatten(2), Sum()), [halves()])
    model = hand_built()
    model[-1].weight.requires_grad_(False)
    with pytest.raises(InputError, match="the model's is frozen"):
        FST()(model, [halves()])
    with pytest.raises(InputError, match="alpha >= 0"):
        FST(alpha=-0.1)


class Sum(nn.Module):
    """Adds the last dimension up."""

    def forward(self, x):
        return x.sum(dim=-1)
