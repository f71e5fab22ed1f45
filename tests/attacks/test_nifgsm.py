"""NIFGSM: MIFGSM that looks ahead. The laws of all attacks are asked of it in test_laws.py."""

import pytest
import torch
from torch import nn

from lightning_adv.attacks import BIM, MIFGSM, NIFGSM

from .problems import EPS, images, tilted_problem
from .test_parity import imported

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])


@every_norm
def test_without_memory_there_is_nothing_ahead_and_it_is_bim(norm):
    model, x, y = tilted_problem()
    settings = {"eps": EPS[norm], "step_size": EPS[norm] / 4, "steps": 7, "norm": norm}
    torch.testing.assert_close(NIFGSM(**settings, decay=0.0)(model, x, y), BIM(**settings)(model, x, y))


def test_its_pixels_are_those_of_a_peer(digits):
    model, x, y = digits[0], digits[1][:100], digits[2][:100]
    peer = imported("torchattacks").NIFGSM(model, eps=0.1, alpha=0.01, steps=10, decay=1.0)(x, y)
    difference = (peer - NIFGSM(eps=0.1, step_size=0.01)(model, x, y)).abs()
    assert (difference < 1e-5).float().mean() > 0.999  # a gradient of rounding size may have either sign
    assert (peer - MIFGSM(eps=0.1, step_size=0.01)(model, x, y)).abs().max() > 0.01


def test_what_lies_ahead_is_no_finding():
    """A model that is wrong just outside the ball: the look ahead sees it, and the attack must not claim it."""

    class Brink(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(dim=1)
            return torch.stack([torch.full_like(mean, 0.61), mean], dim=1)

    x = torch.full_like(images(2), 0.5)
    result = NIFGSM(eps=0.1, step_size=0.1, steps=3, decay=1.0).run(Brink(), x, torch.zeros(2, dtype=torch.long))
    assert not result.success.any()
    assert (result.images - x).abs().max() <= 0.1 + 1e-6
