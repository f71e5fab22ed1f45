"""Model uncertainty is the variance of dropout, keyed by sample, with everything else in eval mode."""

import pytest
import torch
from torch import nn

from lightning_adv.detectors import ModelUncertainty
from lightning_adv.errors import InputError
from tests.detectors.problems import blobs, learnt


def test_the_variance_is_that_of_the_closed_form():
    """Two logits (z, 0), z = 2 a b with b = 1 at probability 1/2: p is sigmoid(2 a) or 1/2."""
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.linspace(0.2, 1, 5).view(5, 1, 1, 1)
    score = ModelUncertainty(passes=4000).score(model, x)
    expected = ((torch.sigmoid(2 * x.flatten()) - 0.5) / 2).square()
    assert torch.allclose(score.float(), expected, rtol=0.05)


def test_a_score_belongs_to_its_sample_and_seed():
    model, x, index = learnt(), blobs(9)[0], torch.arange(9) + 30
    whole = ModelUncertainty().score(model, x, index=index)
    alone = [ModelUncertainty(batch_size=7).score(model, x[i : i + 1], index=index[i : i + 1]) for i in range(9)]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-9)
    assert not torch.allclose(whole, ModelUncertainty(seed=1).score(model, x, index=index))
    assert not torch.allclose(whole, ModelUncertainty().score(model, x, index=index + 1))


def test_channels_are_left_out_whole_by_their_dropout():
    model = nn.Sequential(nn.Dropout2d(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    answers = []
    model.register_forward_hook(lambda module, given, made: answers.append(made))
    ModelUncertainty(passes=200).score(model, torch.full((1, 2, 3, 3), 0.5))
    assert set(torch.cat(answers).unique().tolist()) == {0.0, 1.0}


def test_batch_norm_and_modes_stay_as_they_are():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ModelUncertainty().score(model, blobs(4)[0])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not model[2]._forward_hooks


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), learnt(dropout=0.0)])
def test_a_model_without_dropout_is_refused(model):
    with pytest.raises(InputError, match="needs a model with dropout"):
        ModelUncertainty().score(model, blobs(2)[0])


def test_an_oracle_and_a_single_pass_are_refused():
    with pytest.raises(InputError, match="torch module"):
        ModelUncertainty().score(lambda x: x.flatten(1), blobs(2)[0])
    with pytest.raises(InputError, match="passes must be at least 2"):
        ModelUncertainty(passes=1)
