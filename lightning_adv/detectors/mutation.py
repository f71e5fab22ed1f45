"""Random small changes of an image: what a label's stability is tested with."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.attacks.budget import Budget, as_float
from lightning_adv.attacks.description import Described
from lightning_adv.errors import InputError

__all__ = ["GaussianMutation", "Mutation", "PaperMutation", "UniformMutation", "mutation_noise"]

PATCH = 3
"""Largest side of the rectangle that the paper's operator changes."""

DIVISORS = 20
SPREAD = (sum(1 / r**2 for r in range(1, DIVISORS + 1)) / (12 * DIVISORS)) ** 0.5 / 100
"""Standard deviation of the noise that the paper's operator draws for a pixel."""


class Mutation(Described, ABC):
    """A random neighbour of each image, in [0, 1] unless the operator says otherwise.

    Example:
        >>> noise = mutation_noise(0, torch.arange(2), torch.zeros(2, dtype=torch.int64))
        >>> UniformMutation(0.1)(torch.rand(2, 1, 4, 4), noise).shape
        torch.Size([2, 1, 4, 4])
    """

    @abstractmethod
    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """One mutation of each image [P, C, H, W]."""


class PaperMutation(Mutation):
    """The operator of nMutant (Wang et al., 2018): the sampling region times one of three kinds of change, at random.

    With noise g, of each pixel uniform in [-.5, .5] / (100 r), r drawn for each from 1 to 20:

    - light: the mean of g over the image is added everywhere (drawn from the normal law that such a mean has);
    - occlusion: g is added in a rectangle of 1 to 3 by 1 to 3 pixels;
    - blackout: 1 is taken away in the rectangle where g has a negative mean in it, else nothing changes.

    As in the authors' code nothing is cut to [0, 1]: a blackout leaves pixels as far below black as the region is long,
    which is what the region changes most. ``clip`` cuts, for models that take nothing but images; a blackout is then
    black, and all regions are nearly the same.

    Args:
        region: the sampling region; 1, 5 and 10 in the paper.
        clip: cut to [0, 1].

    Raises:
        InputError: a region that is not positive.

    Example:
        >>> noise = mutation_noise(0, torch.arange(2), torch.zeros(2, dtype=torch.int64))
        >>> PaperMutation(region=1)(torch.rand(2, 3, 8, 8), noise).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, region: float = 1.0, clip: bool = False) -> None:
        if region <= 0:
            raise InputError(f"region must be positive, got {region}; the paper samples with 1, 5 and 10")
        self.region, self.clip = region, clip

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """One mutation of each image [P, C, H, W]."""
        count, channels, height, width = x.shape
        choice = noise.uniform(x.new_empty(count, 5)).unbind(dim=1)
        kind = (3 * choice[0]).long()[:, None, None, None]
        mean = noise.normal(x.new_empty(count, 1))[:, :, None, None] * (SPREAD / (channels * height * width) ** 0.5)
        sides = [1 + (min(PATCH, side) * u).long() for side, u in ((height, choice[1]), (width, choice[2]))]
        corners = [((side - s + 1) * u).long() for side, s, u in zip((height, width), sides, choice[3:], strict=True)]
        rows, columns = (
            _places(corner, side, length) for corner, side, length in zip(corners, sides, (height, width), strict=True)
        )
        inside = (rows.sum(1)[:, :, None] * columns.sum(1)[:, None, :])[:, None]  # [P, 1, H, W]
        drawn, divisor = noise.uniform(x.new_empty(count, 2, channels, PATCH, PATCH)).unbind(dim=1)
        patch = (drawn - 0.5) / (100 * (1 + (DIVISORS * divisor).long()))
        patch = rows.transpose(1, 2)[:, None] @ patch @ columns[:, None]  # [P, C, H, W], zero outside
        darker = (patch.flatten(1).sum(dim=1) < 0)[:, None, None, None]
        change = torch.where(kind == 0, mean, torch.where(kind == 1, patch, -1.0 * inside * darker))
        mutated = x + self.region * change
        return mutated.clamp(0, 1) if self.clip else mutated


class UniformMutation(Mutation):
    """A uniform point of the ball around the image (cut to [0, 1]).

    Args:
        radius: in pixel units of [0, 1]; ``8/255`` is accepted.
        norm: "Linf" or "L2".

    Raises:
        InputError: a radius that is not positive, another norm.

    Example:
        >>> noise = mutation_noise(0, torch.arange(2), torch.zeros(2, dtype=torch.int64))
        >>> x = torch.full((2, 1, 4, 4), 0.5)
        >>> ((UniformMutation(0.1)(x, noise) - x).abs() <= 0.1).all()
        tensor(True)
    """

    def __init__(self, radius: Budget = 0.05, norm: Literal["Linf", "L2"] = "Linf") -> None:
        self.radius, self.norm = as_float("radius", radius), norm
        if self.radius <= 0:
            raise InputError(f"radius must be positive, got {radius}")
        if norm not in ("Linf", "L2"):
            raise InputError(f"norm of UniformMutation must be Linf or L2, got {norm!r}")

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """One mutation of each image [P, C, H, W]."""
        if self.norm == "Linf":
            return (x + self.radius * (2 * noise.uniform(x) - 1)).clamp(0, 1)
        direction = noise.normal(x)
        length = noise.uniform(x.new_empty(len(x), 1, 1, 1)) ** (1 / x[0].numel())
        norm = torch.linalg.vector_norm(direction, dim=(1, 2, 3), keepdim=True)
        return (x + self.radius * length * direction / norm).clamp(0, 1)


class GaussianMutation(Mutation):
    """The image plus normal noise (cut to [0, 1]).

    Args:
        std: standard deviation of a pixel, in pixel units of [0, 1].

    Raises:
        InputError: a deviation that is not positive.

    Example:
        >>> noise = mutation_noise(0, torch.arange(2), torch.zeros(2, dtype=torch.int64))
        >>> GaussianMutation(0.1)(torch.rand(2, 1, 4, 4), noise).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, std: Budget = 0.05) -> None:
        self.std = as_float("std", std)
        if self.std <= 0:
            raise InputError(f"std must be positive, got {std}")

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """One mutation of each image [P, C, H, W]."""
        return (x + self.std * noise.normal(x)).clamp(0, 1)


def mutation_noise(seed: int, index: Tensor, draw: Tensor) -> SampleNoise:
    """The noise of mutation number ``draw`` [P] of sample ``index`` [P]: a function of (seed, index, draw) alone."""
    return SampleNoise(seed, (index << 32) + draw)


def _places(corner: Tensor, side: Tensor, length: int) -> Tensor:
    """[P, PATCH, length], one where row k of the patch, k < side, lies on the image's row corner + k."""
    k = torch.arange(PATCH, device=corner.device)
    at = (corner[:, None] + k)[:, :, None] == torch.arange(length, device=corner.device)
    return (at & (k < side[:, None])[:, :, None]).float()
