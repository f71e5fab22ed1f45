"""A classifier whose boundary is known."""

import torch
from torch import nn


def halves() -> nn.Module:
    """Left against right: the margin is their difference."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    model[1].weight.data = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4) * torch.tensor([[1.0], [-1.0]])
    return model
