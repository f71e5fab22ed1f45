"""Small nets for training objectives."""

import torch
from torch import Tensor, nn


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(count) % 3


def smooth_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def normalised_net(dropout: float = 0.0) -> nn.Sequential:
    """With BatchNorm whose running statistics differ from any batch's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(4 * 36, 3),
        )  # fmt: skip
    model[1].running_mean.fill_(0.7)
    model[1].running_var.fill_(3.0)
    return model.train()
