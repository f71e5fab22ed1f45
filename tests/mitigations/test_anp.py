"""ANP learns masks by the paper's loss, with the model untouched, and prunes by them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations import ANP
from lightning_adv.mitigations.anp import shaken
from tests.mitigations.problems import DORMANT, TARGET, USED, halves, hand_built, share, triggered


def net(norm: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(96, 2)).eval()


@pytest.mark.parametrize("norm", [True, False])
def test_a_step_of_the_masks_is_the_gradient_at_worst_noise_and_at_none(norm):
    """d L(m w) / d m = <w, dL/dw> of each channel; the noise is a uniform draw and a step of eps along its sign."""
    model, (x, y), eps = net(norm), halves(8), 0.3
    layer, name = (model[1], "1") if norm else (model[0], "0")
    weight, bias = (each.detach().clone() for each in (layer.weight, layer.bias))
    wide = [-1, *[1] * (weight.dim() - 1)]

    def slopes(scale, shift):
        layer.weight.data, layer.bias.data = weight * (1 + scale).view(wide), bias * (1 + shift)
        grads = torch.autograd.grad(F.cross_entropy(model(x), 1 - y), (layer.weight, layer.bias))
        layer.weight.data, layer.bias.data = weight, bias
        return (grads[0] * weight).view(6, -1).sum(dim=1), grads[1] * bias

    random = torch.Generator().manual_seed(0)
    drawn = [(2 * torch.rand(6, generator=random) - 1) * eps for _ in range(2)]
    noise = [(each + eps * slope.sign()).clamp(-eps, eps) for each, slope in zip(drawn, slopes(*drawn), strict=True)]
    slope = 0.2 * slopes(torch.zeros(6), torch.zeros(6))[0] + 0.8 * slopes(*noise)[0]
    mask = ANP(eps=eps, steps=1, lr=0.5, batch_size=8).masks(model, CleanImages(x, 1 - y))[name]
    assert mask.tolist() == pytest.approx((1 - 0.5 * slope).clamp(0, 1).tolist(), abs=1e-5)
    assert mask.min() < 1 == mask.max()
    assert torch.equal(layer.weight, weight)


def test_scales_are_masked_and_shaken_and_shifts_shaken():
    norm = nn.BatchNorm2d(2)
    norm.weight.data, norm.bias.data = torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0])
    mask, scale, shift = torch.tensor([1.0, 0.5]), torch.tensor([0.1, -0.5]), torch.tensor([0.0, 0.4])
    found = shaken({"n": norm}, {"n": mask}, {"n": scale}, {"n": shift})
    assert found["n.weight"].tolist() == pytest.approx([2 * 1.1, 3 * 0.0])
    assert found["n.bias"].tolist() == pytest.approx([1.0, -1.4])


def test_the_channel_of_a_backdoor_goes_and_the_used_one_stays():
    """Noise opens the dormant channel on clean images, and a lower scale shuts it again."""
    model, (x, y) = hand_built(norm=True).eval(), halves()
    model[0].bias.data[DORMANT], model[1].bias.data[DORMANT] = 0.0, -8.0
    assert share(model, triggered(x), TARGET) == 1.0
    report = ANP(steps=60, accuracy_drop=0.0, batch_size=16)(model, [(x, y)])
    assert report.repair.prunings[0].pruned[0] == DORMANT
    assert USED not in report.repair.prunings[0].pruned
    assert share(model, triggered(x), y) == 1.0


def test_numbers_that_cannot_be_meant_are_refused():
    for wrong in ({"eps": -0.1}, {"alpha": 2.0}, {"steps": 0}, {"accuracy_drop": -1.0}):
        with pytest.raises(InputError, match="ANP needs eps >= 0"):
            ANP(**wrong)
    with pytest.raises(InputError, match=r"no nn.Conv2d runs"):
        ANP(steps=1)(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), [halves()])
