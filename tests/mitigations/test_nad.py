"""NAD compares where maps are active, at the stages of any network, with a teacher that was fine-tuned before."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.mitigations import NAD, FineTuning
from lightning_adv.mitigations.nad import attention, stages
from lightning_adv.models.preact_resnet import PreActBlock
from tests.mitigations.problems import halves, trained


def test_attention_is_the_energy_of_positions_at_unit_length_whatever_the_scale_of_an_image():
    maps = torch.tensor([[[[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]])  # [1, 2, 2, 2]: energies 2, 0, 4, 0
    expected = torch.tensor([[2.0, 0.0, 4.0, 0.0]]) / 20**0.5
    assert torch.allclose(attention(maps), expected)
    assert torch.allclose(attention(torch.cat([maps, 7 * maps])), expected.expand(2, 4))


def test_stages_are_the_last_layers_of_every_size_of_maps_whatever_their_names():
    body = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()]
    model = nn.Sequential(*body, PreActBlock(2, 2, stride=1), PreActBlock(2, 3, stride=2), nn.Conv2d(3, 4, 3)).eval()
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(4, 2)).eval()
    names = {module: name for name, module in model.named_modules()}
    found = [names[each] for each in stages(model, torch.rand(1, 1, 6, 6))]
    assert found == ["0.4.bn1", "0.4.shortcut"]  # of 6 x 6 and of 3 x 3; one position is nowhere to look


def test_a_step_is_the_gradient_of_both_terms_with_the_fine_tuned_copy_as_teacher():
    (x, y), settings = halves(5), {"epochs": 1, "lr": 0.2, "batch_size": 4}
    chosen = torch.randperm(5, generator=torch.Generator().manual_seed(0))[1:]
    model, teacher, reference = trained(), trained(), trained()
    FineTuning(weight_decay=0, **settings)(teacher, [(x, 1 - y)])
    maps, goal = reference[0](x[chosen]), teacher[0](x[chosen])
    apart = (attention(maps) - attention(goal.detach())).square().mean()
    value = F.cross_entropy(reference[1:](maps), 1 - y[chosen]) + 50 * apart
    grads = torch.autograd.grad(value, list(reference.parameters()))
    NAD(betas=(500.0, 50.0), **settings)(model, [(x, 1 - y)])  # one stage: the last weight is its own
    for weight, before, grad in zip(model.parameters(), trained().parameters(), grads, strict=True):
        assert torch.allclose(weight, before - 0.2 * grad, rtol=0, atol=1e-6)


def test_models_and_numbers_that_do_not_suit_are_refused():
    with pytest.raises(InputError, match=r"no nn.Conv2d of the model makes any"):
        NAD()(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), [halves()])
    for wrong in ((), (-1.0,)):
        with pytest.raises(InputError, match="betas of at least one stage"):
            NAD(betas=wrong)
