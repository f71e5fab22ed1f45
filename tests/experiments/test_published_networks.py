"""Networks of others are computed as their publishers compute them."""

import torch
from torch import nn

from experiments.published_networks import ELU


def test_the_faster_elu_and_its_gradient_are_pytorchs():
    x = torch.tensor([-100.0, -9.0, -1.0, -1e-3, -1e-30, 0.0, 1e-30, 1e-3, 1.0, 100.0], requires_grad=True)
    ours, theirs = ELU()(x), nn.ELU()(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1.2e-7)
    of_ours, of_theirs = (torch.autograd.grad((y * torch.arange(10)).sum(), x)[0] for y in (ours, theirs))
    torch.testing.assert_close(of_ours, of_theirs, rtol=0, atol=1.2e-6)
