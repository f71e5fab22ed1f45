"""Small victims for detectors, and images whose label change rate is known."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 3


class Halves(nn.Module):
    """Two classes by the mean of the image, in float64: exact, whatever the batch."""

    def forward(self, x: Tensor) -> Tensor:
        lead = x.double().mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-lead, lead], dim=1)


def near_and_far() -> Tensor:
    """Eight images [8, 1, 6, 6] from the boundary of ``Halves`` to far away from it."""
    level = 0.5 + torch.tensor([0.0, 1e-3, 3e-3, 5e-3, 8e-3, 1.2e-2, 0.1, 0.4])
    return level.view(-1, 1, 1, 1).expand(-1, 1, 6, 6).clone()


class Learner(nn.Module):
    """A convolutional net with dropout and named layers."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2)
        self.hidden = nn.Linear(6 * 3 * 3, 16)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.hidden(F.relu(self.conv(x)).flatten(1)))
        return self.logits(self.dropout(hidden))


def blobs(count: int = 90, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise with a bright row that tells the class: images [N, 1, 8, 8] and labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    image = 0.5 * torch.rand(count, 1, 8, 8, generator=generator)
    image[torch.arange(count), 0, 1 + 2 * label] += 0.5
    return image, label


def loader(count: int = 90, seed: int = 0, batch_size: int = 32) -> DataLoader:
    return DataLoader(TensorDataset(*blobs(count, seed)), batch_size=batch_size)


def learnt(dropout: float = 0.3) -> Learner:
    """A learner that knows the blobs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Learner(dropout)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        x, y = blobs(300, seed=5)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model
