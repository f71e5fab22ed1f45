"""Activations are those of the named layers, whatever the module, and no hook stays behind."""

import pytest
import torch
from torch import nn

from lightning_adv.detectors.features import activations, last_hidden, weight_layers
from lightning_adv.errors import InputError
from tests.detectors.problems import blobs, learnt


@pytest.mark.parametrize("compiled", [False, True])
def test_an_activation_is_the_output_of_its_layer(compiled):
    model, x = learnt().eval(), blobs(4)[0]
    if compiled:
        model.compile(backend="eager")
    with torch.no_grad():
        model(x)
        (conv, hidden), logits = activations(model, x, ["conv", "hidden"])
        assert torch.equal(conv, model.conv(x).flatten(1))
        assert torch.allclose(hidden, model.hidden(torch.relu(conv)), atol=1e-6)
        assert torch.allclose(logits, model(x), atol=1e-6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_last_hidden_layer_is_before_the_last_linear_one():
    assert last_hidden(learnt()) == "logits"
    assert weight_layers(learnt()) == ["conv", "hidden", "logits"]


def test_hooks_are_gone_after_a_failure():
    model = learnt()
    with pytest.raises(RuntimeError):
        activations(model, torch.rand(2, 3, 8, 8), ["conv"])
    assert not model.conv._forward_hooks


def test_a_layer_that_is_passed_twice_is_refused():
    shared = nn.Linear(64, 64)
    model = nn.Sequential(nn.Flatten(), shared, shared, nn.Linear(64, 3))
    with pytest.raises(InputError, match="gave 2"):
        activations(model, blobs(3)[0], ["1"])
