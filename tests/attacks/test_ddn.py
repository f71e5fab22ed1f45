"""DDN: the nearest success in L2. The laws of all attacks are asked of it in test_laws.py."""

import math

import pytest
import torch
from torch import nn

from lightning_adv.attacks import DDN, FAB
from lightning_adv.attacks.ball import lengths
from lightning_adv.errors import InputError
from tests.attacks.test_parity import imported


def test_it_stops_at_the_boundary_of_a_linear_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    normal = nn.functional.normalize(torch.randn(16), dim=0)
    model[1].weight.copy_(torch.stack([normal, -normal]))
    model[1].bias.copy_(torch.stack([-0.5 * normal.sum(), 0.5 * normal.sum()]))
    gap = torch.linspace(0.05, 0.4, 8)
    x = (0.5 + gap[:, None] * normal).view(8, 1, 4, 4)
    result = DDN(steps=200).run(model, x, torch.zeros(8, dtype=torch.long))
    assert result.success.all()
    found = lengths((result.images - x).flatten(1), "L2")
    assert (found >= gap * (1 - 1e-3)).all()
    assert (found <= gap * 1.01).all(), "the sphere's last steps are of 1 %"


PAPER = {"gamma": 0.05, "last_gamma": 0.05, "radius": 1.0}


def test_with_the_papers_sphere_it_finds_foolboxs_images(digits):
    model, x, y = (digits[0], digits[1][:60], digits[2][:60])
    foolbox = imported("foolbox")
    attack = foolbox.attacks.DDNAttack(steps=60)
    _, theirs, _ = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=None)
    result = DDN(steps=60, **PAPER).run(model, x, y)
    ours, theirs = (lengths((each - x).flatten(1), "L2") for each in (result.images, theirs))
    right = model(x).argmax(dim=1) == y
    assert result.success.all()
    torch.testing.assert_close(ours[right].mean(), theirs[right].mean(), rtol=0.005, atol=0)
    assert ((ours[right] - theirs[right]).abs() <= 0.02 * theirs[right]).float().mean() > 0.9


def test_its_images_are_as_near_as_those_of_fab_for_no_more_passes(digits):
    model, x, y = (digits[0], digits[1][:40], digits[2][:40])
    nearest = DDN(steps=100), FAB(steps=20, norm="L2")  # a step of the latter takes two forwards and nine backwards
    ours, theirs = (lengths((each.run(model, x, y).images - x).flatten(1), "L2").mean() for each in nearest)
    assert ours <= theirs


def test_where_the_gradient_vanishes_it_goes_somewhere_and_the_sphere_is_not_larger_than_the_box():
    class Flat(nn.Module):
        def forward(self, x):
            assert x.isfinite().all()
            bright = (x.flatten(1).mean(dim=1) > 2).float() + 0 * x.flatten(1).sum(dim=1)
            return torch.stack([1 - bright, bright], dim=1)

    x = torch.full((2, 1, 4, 4), 0.5)
    result = DDN(steps=2000).run(Flat(), x, torch.tensor([0, 0]))
    assert not result.success.any()
    assert result.zero_gradient.all()
    assert (result.images == x).all(), "nothing was found"


@pytest.mark.parametrize("wrong", [{"gamma": 0}, {"last_gamma": 0}, {"gamma": 1}, {"radius": 0}, {"radius": math.inf}])
def test_refuses_what_cannot_be_meant(wrong):
    with pytest.raises(InputError, match="gamma and last_gamma must lie"):
        DDN(**wrong)
