"""Training images whose features are their pixels, and of which one knows which are poisoned."""

import torch
from torch import Tensor, nn

SIDE, CLASSES, POISONED = 4, 6, 2
"""Pixels of a side, classes, and the class that is poisoned."""


def model() -> nn.Module:
    """A classifier whose convolution and last hidden layer give the image itself."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(convolution.weight)
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).eval()


def images(each: int = 50, poisoned: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images [N, 1, 4, 4], labels and numbers; the first ``poisoned`` of class 2 have two white pixels.

    The images of each class are noise around a grey of its own; numbers count from 100 in steps of three.
    """
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(CLASSES).repeat(each)
    image = 0.2 + 0.05 * label.view(-1, 1, 1, 1) + 0.1 * torch.rand(len(label), 1, SIDE, SIDE, generator=generator)
    chosen = (label == POISONED).nonzero().flatten()[:poisoned]
    image[chosen, :, 0, :2] = 0.95
    return image, label, 100 + 3 * torch.arange(len(label))


def truth(poisoned: int = 8) -> list[int]:
    """Numbers of the poisoned images of :func:`images`."""
    return [100 + 3 * (POISONED + CLASSES * place) for place in range(poisoned)]


def batches(parts: tuple[Tensor, Tensor, Tensor], size: int = 64) -> list[tuple[Tensor, ...]]:
    """In batches of ``size``."""
    return list(zip(*(part.split(size) for part in parts), strict=True))
