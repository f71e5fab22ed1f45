import copy

import pytest
import torch
from torch import nn

from lightning_adv.detectors import IBDPSC
from lightning_adv.errors import InputError
from tests.detectors.problems import learnt, loader


class Backwards(nn.Module):
    """Three normalisations that the forward passes in another order than the class names them, and one without weights.

    The logits of an image are its first three pixels, raised by what the normalisations make of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first, self.middle = (nn.BatchNorm1d(3) for _ in range(3))
        self.bare = nn.BatchNorm1d(3, affine=False)
        for place, norm in enumerate((self.last, self.first, self.middle)):
            norm.weight.data += 0.1 * torch.arange(3) + place
            norm.bias.data.copy_(torch.tensor([0.3, -0.2, 0.1]) * (place + 1))

    def forward(self, x):
        return self.last(self.middle(self.first(self.bare(x.flatten(1)[:, :3]))))


def data(count=60):
    x = torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return x, Backwards().eval()(x).argmax(dim=1)


def test_the_last_layers_are_those_that_the_forward_passes_last():
    detector = IBDPSC(models=2).fit(Backwards(), [data()])
    assert detector.layers == ["first", "middle", "last"]


def test_the_score_is_the_mean_confidence_of_models_whose_last_layers_are_amplified():
    model, (x, y) = Backwards().eval(), data()
    detector = IBDPSC(models=2).fit(model, [(x, y)])
    detector.first = 1
    confidences = []
    for layers in (["last"], ["last", "middle"]):
        amplified = copy.deepcopy(model)
        for name in layers:
            norm = getattr(amplified, name)
            norm.weight.data *= 1.5
            norm.bias.data *= 1.5
        confidences.append(amplified(x).softmax(dim=1).gather(1, y[:, None])[:, 0])
    assert torch.allclose(detector.score(model, x), torch.stack(confidences).mean(dim=0), atol=1e-6)


class Shifted(nn.Module):
    """Two normalisations; class 0 gains so much from amplification that clean images of the others are lost to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
        self.norms[0].bias.data[0] = 1.0

    def forward(self, x):
        return self.norms(x.flatten(1)[:, :3]) - torch.tensor([1.2, 0.0, 0.0])


def test_the_first_number_of_layers_is_the_one_with_which_clean_images_are_lost():
    model = Shifted().eval()
    x = 0.05 * torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    x[:, 0, 0, 1] += 0.1
    y = model(x).argmax(dim=1)
    assert (y == 1).all()
    error = []
    for count in (1, 2):
        amplified = copy.deepcopy(model)
        for norm in list(amplified.norms)[-count:]:
            norm.weight.data *= 1.5
            norm.bias.data *= 1.5
        error.append((amplified(x).argmax(dim=1) != y).float().mean().item())
    assert error[0] > 0.6
    assert IBDPSC().fit(model, [(x, y)]).first == 1
    milder = IBDPSC(factor=1.2).fit(model, [(x, y)])
    assert milder.first == 2
    assert not milder.doubts


def test_a_net_that_withstands_amplification_says_so():
    detector = IBDPSC(models=2).fit(Backwards(), [data()])
    assert detector.first == 2
    assert "60 clean images right" in detector.doubts[0]
    assert not IBDPSC(error=1e-9, factor=50.0).fit(Shifted(), [data()]).doubts


def test_the_model_stays_bit_for_bit():
    model = Backwards().train()
    before = copy.deepcopy(model.state_dict())
    IBDPSC(models=2).fit(model, [data()]).decide(model, data()[0])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.last.training
    assert not model.last._forward_hooks


def test_a_layer_that_is_used_twice_counts_where_it_is_used_last():
    class Twice(Backwards):
        def forward(self, x):
            return self.first(super().forward(x))

    assert IBDPSC(models=1).fit(Twice(), [data()]).layers == ["middle", "last", "first"]


def test_an_image_is_scored_by_itself():
    model, x = Backwards(), data(9)[0]
    detector = IBDPSC(models=3).fit(model, [data()])
    alone = torch.cat([detector.score(model, each) for each in x.split(1)])
    assert torch.allclose(detector.score(model, x), alone, atol=1e-6)


def test_mistakes_are_refused():
    with pytest.raises(InputError, match="factor above 1"):
        IBDPSC(factor=1.0)
    with pytest.raises(InputError, match="error in"):
        IBDPSC(error=1.0)
    with pytest.raises(InputError, match="call fit"):
        IBDPSC().score(Backwards(), data()[0])
    with pytest.raises(InputError, match="use ScaleUp or STRIP"):
        IBDPSC().fit(learnt(), loader(6))
    with pytest.raises(InputError, match="use ScaleUp or STRIP"):
        IBDPSC().check(learnt(), torch.rand(1, 1, 8, 8), torch.arange(1))
