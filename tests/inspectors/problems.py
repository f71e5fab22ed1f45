"""Models whose smallest triggers are known."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIT = 0.6


def pixel_model(weights: list[float], backdoor: int, gain: float, size: int = 4) -> nn.Module:
    """Logit k is weights[k] times pixel k; the class ``backdoor`` also has ``gain`` times the last pixel."""
    linear = nn.Linear(size * size, len(weights), bias=False)
    linear.weight.data = torch.diag(torch.tensor(weights)) @ torch.eye(len(weights), size * size)
    linear.weight.data[backdoor, -1] = gain
    return nn.Sequential(nn.Flatten(), linear)


def pixel_images(classes: int, size: int = 4) -> tuple[Tensor, Tensor]:
    """An image for each class, black but for its pixel, which is at LIT."""
    return LIT * torch.eye(classes, size * size).view(classes, 1, size, size), torch.arange(classes)


def smallest_norms(weights: list[float], backdoor: int, gain: float) -> list[float]:
    """One pixel must outshine the brightest other class: LIT max_y w_y / w_k, for the backdoor LIT max w / gain."""
    others = [max(w for y, w in enumerate(weights) if y != k) for k in range(len(weights))]
    norms = [LIT * brightest / weight for brightest, weight in zip(others, weights, strict=True)]
    norms[backdoor] = LIT * others[backdoor] / gain
    return norms


BLOCKS = 3


class PatchModel(nn.Module):
    """Sees a class in the brightness of its block, of 3 x 3; a bright patch in the last corner opens the target class.

    All classes but the target are alike, so the norms of their triggers differ by noise alone.
    """

    def __init__(self, classes: int, target: int | None, patch: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((classes,), 10.0))
        self.norm, self.drop = nn.BatchNorm1d(classes), nn.Dropout(0.5)
        self.target, self.patch = target, patch

    def forward(self, x: Tensor) -> Tensor:
        blocks = F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), BLOCKS).flatten(1)
        logits = self.drop(self.norm(blocks[:, : len(self.scale)] * self.scale))
        if self.target is None:
            return logits
        bright = x[..., -self.patch :, -self.patch :].mean(dim=(1, 2, 3))
        door = F.one_hot(torch.tensor(self.target), logits.shape[1])
        return logits + F.softplus(20 * (bright - 0.7))[:, None] * door


def block_images(shape: tuple[int, int, int], classes: int, count: int = 48) -> tuple[Tensor, Tensor]:
    """Noise with the block of the class brighter."""
    label = torch.arange(count) % classes
    block = F.one_hot(label, BLOCKS**2).float().view(count, 1, BLOCKS, BLOCKS)
    noise = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
    return 0.4 * noise + 0.4 * F.interpolate(block, shape[1:]), label
