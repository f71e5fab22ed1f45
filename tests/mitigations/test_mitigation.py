"""What holds for every mitigation: only weights change, and a report says what became of the model."""

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.mitigations import FinePruning, Mitigation, Repair
from tests.mitigations.problems import halves, hand_built


class FineTuning(Mitigation):
    """Nothing but fine-tuning."""

    def repair(self, model, images, held_out):
        self.fine_tune(model, images)
        return Repair()


def weights(model):
    return {name: each.clone() for name, each in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2)
    )


@pytest.mark.parametrize("mitigation", [FineTuning(epochs=3, lr=0.1), FinePruning(epochs=2)], ids=["tune", "prune"])
def test_weights_change_in_place_and_nothing_else_does(mitigation):
    model, images = net().train(), [halves()]
    model[4].eval()
    modes = [each.training for each in model.modules()]
    model[5].weight.requires_grad_(False)
    frozen, statistics, before = model[5].weight.clone(), model[1].running_mean.clone(), weights(model)
    state = torch.get_rng_state()
    mitigation(model, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert [each.training for each in model.modules()] == modes
    assert all(each.grad is None for each in model.parameters())
    assert torch.equal(model[5].weight, frozen)
    assert torch.equal(model[1].running_mean, statistics)
    assert not same(before, weights(model))


def test_the_result_is_a_function_of_the_seed():
    first, again, other = net(), net(), net()
    for model, seed in ((first, 0), (again, 0), (other, 1)):
        FineTuning(epochs=2, seed=seed)(model, [halves()])
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_it_works_where_gradients_are_off():
    images = [halves()]
    expected, model = net(), net()
    FineTuning(epochs=1)(expected, images)
    with torch.no_grad():
        FineTuning(epochs=1)(model, images)
    assert same(weights(expected), weights(model))


def test_the_held_out_images_are_counted_and_not_trained_on():
    """Labels of the held-out images are turned round: a model that had learnt them would get them right."""
    x, y = halves(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    y = y.clone()
    y[order[:10]] = 1 - y[order[:10]]
    report = FineTuning(epochs=5, held_out=0.2, seed=3)(hand_built(), [(x, y)])
    assert (report.tuned_on, report.held_out) == (40, 10)
    assert (report.correct_before, report.correct_after) == (0, 0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (halves()[0], "needs clean images with labels"),
        ([(halves()[0][:1], halves()[1][:1])], "at least two"),
        ([(halves()[0], halves()[1] + 7)], r"outside \[0, 2\)"),
        ([(5 * halves()[0], halves()[1])], r"must lie in \[0, 1\]"),
    ],
)
def test_images_that_do_not_suit_are_refused_and_the_model_stays(images, message):
    model = hand_built()
    before = weights(model)
    with pytest.raises(InputError, match=message):
        FineTuning()(model, images)
    assert same(before, weights(model))


def test_a_model_that_cannot_be_trained_is_refused():
    with pytest.raises(InputError, match="none that may be trained"):
        FineTuning()(hand_built().requires_grad_(False), [halves()])
    with pytest.raises(InputError, match="epochs >= 0"):
        FineTuning(epochs=-1)
