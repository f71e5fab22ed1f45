"""Colour quantisation by k-means (as a defence: Tan, Te, Lai, 2019).

x_p  ->  c_a(p),   a(p) = argmin_k |x_p - c_k|^2,   c_k = mean of the pixels with a(p) = k
"""

import torch
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["KMeansQuantization"]

TOGETHER = 2**22
"""Most distances computed at once: more images would leave the caches of a CPU."""


class KMeansQuantization(Purifier):
    """Every pixel becomes the nearest of a few colours, which are fitted to its own image; all images at once.

    The colours start as in k-means++ (Arthur and Vassilvitskii, 2007), best of a few candidates each, and are then
    moved by Lloyd's iteration. Gradients through the colours would feign robustness: attack it by BPDA.

    Args:
        colours: k; 16 for MNIST and 50 for CIFAR-10 in the source.
        steps: of Lloyd's iteration.
        seed: of the start.

    Raises:
        InputError: fewer than 2 colours, fewer than 1 step.

    Example:
        >>> purified = KMeansQuantization(colours=4)(torch.rand(1, 1, 8, 8))
        >>> len(purified.unique())
        4
    """

    randomised = True
    differentiable = False

    def __init__(self, colours: int = 16, steps: int = 10, seed: int = 0) -> None:
        super().__init__(seed)
        if colours < 2:
            raise InputError(f"colours must be at least 2, got {colours}")
        at_least_one(steps=steps)
        self.colours, self.steps = colours, steps

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """Nearest colours of each image."""
        pixels = x.flatten(2).transpose(1, 2)  # [N, P, C]
        # [N, k, T]: k draws of T candidates each
        chance = noise.uniform(x.new_empty(len(x), self.colours, _candidates(self.colours)))
        size = max(1, TOGETHER // (pixels.shape[1] * self.colours))
        parts = zip(pixels.split(size), chance.split(size), strict=True)
        return torch.cat([self._quantized(*part) for part in parts]).transpose(1, 2).reshape(x.shape)

    def _quantized(self, pixels: Tensor, chance: Tensor) -> Tensor:
        centres = _start(pixels, chance)
        for _ in range(self.steps):
            centres = _means(pixels, _nearest(pixels, centres), centres)
        return centres.gather(1, _nearest(pixels, centres)[:, :, None].expand_as(pixels))


def _candidates(colours: int) -> int:
    """Candidates for a colour, as many as scikit-learn tries: 2 + ln k."""
    return 2 + int(torch.tensor(float(colours)).log())


def _start(pixels: Tensor, chance: Tensor) -> Tensor:
    """First colours [N, k, C]: of T drawn in proportion to the squared distance, the one that lowers it most.

    Args:
        pixels: [N, P, C].
        chance: [N, k, T] in [0, 1).
    """
    rows = torch.arange(len(pixels), device=pixels.device)
    centres = [pixels[rows, (chance[:, 0, 0] * pixels.shape[1]).long()]]
    distance = (pixels - centres[0][:, None]).square().sum(dim=2)  # [N, P]
    for k in range(1, chance.shape[1]):
        total = distance.double().cumsum(dim=1)
        place = torch.searchsorted(total, chance[:, k].double() * total[:, -1:], right=True)  # [N, T]
        candidates = pixels.gather(1, place.clamp_max(pixels.shape[1] - 1)[:, :, None].expand(-1, -1, pixels.shape[2]))
        each = (pixels[:, None] - candidates[:, :, None]).square().sum(dim=3)  # [N, T, P]
        each = torch.minimum(each, distance[:, None])
        best = each.sum(dim=2).argmin(dim=1)
        distance = each[rows, best]
        centres.append(candidates[rows, best])
    return torch.stack(centres, dim=1)


def _nearest(pixels: Tensor, centres: Tensor) -> Tensor:
    """[N, P] number of the nearest colour: argmin |c|^2 - 2 <x, c>."""
    scores = torch.baddbmm(centres.square().sum(dim=2)[:, None], pixels, centres.transpose(1, 2), alpha=-2)
    return scores.argmin(dim=2)


def _means(pixels: Tensor, nearest: Tensor, centres: Tensor) -> Tensor:
    """Means [N, k, C] of the pixels of each colour; one without pixels stays where it is."""
    count = torch.zeros_like(centres[:, :, 0]).scatter_add_(1, nearest, torch.ones_like(pixels[:, :, 0]))[:, :, None]
    total = torch.zeros_like(centres).scatter_add_(1, nearest[:, :, None].expand_as(pixels), pixels)
    return torch.where(count > 0, total / count.clamp_min(1), centres)
