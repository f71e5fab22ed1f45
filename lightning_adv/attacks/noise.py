"""Where an attack's random numbers come from.

Evaluation draws from :class:`SampleNoise`: a pure function of (seed, sample index, restart, draw, pixel), so that a
sample's result does not depend on its batch, the batch size, the device or the number of ranks. Training draws from
:class:`DeviceNoise`: one generator on the device for the whole batch, as fast as it allows.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from lightning_adv.pixels import canonical

__all__ = ["DeviceNoise", "Noise", "SampleNoise", "content_index"]

# SplitMix64 (Steele, Lea, Flood, 2014), its 64-bit constants written as signed integers.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
MIX_2 = 0x94D049BB133111EB - (1 << 64)


class Noise(Protocol):
    """A source of random numbers shaped like a batch: any object with these three methods.

    Example:
        >>> noise: Noise = SampleNoise(0, torch.arange(2))
        >>> noise.normal(torch.zeros(2, 1, 4, 4)).dtype
        torch.float32
    """

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1) in float32, shaped like ``like`` [N, ...]."""

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1) in float32, shaped like ``like`` [N, ...]."""

    def select(self, keep: Tensor) -> "Noise":
        """The source of the samples at the positions ``keep`` of the batch."""


class DeviceNoise:
    """Noise from one generator for the whole batch.

    Args:
        generator: on the device of the images; default one of its own, seeded by the global CPU generator, so that
            attacks, which put the global generators back, do not start from the same noise at every training step.

    Example:
        >>> noise = DeviceNoise(torch.Generator().manual_seed(0))
        >>> noise.uniform(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator
        self._seed = int(torch.randint(2**63 - 1, ())) if generator is None else 0

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1) in float32, shaped like ``like`` [N, ...]."""
        return torch.rand(like.shape, dtype=torch.float32, device=like.device, generator=self._on(like.device))

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1) in float32, shaped like ``like`` [N, ...]."""
        return torch.randn(like.shape, dtype=torch.float32, device=like.device, generator=self._on(like.device))

    def select(self, keep: Tensor) -> "DeviceNoise":
        """Itself: its numbers do not belong to samples."""
        return self

    def _on(self, device: torch.device) -> torch.Generator:
        if self.generator is None:
            self.generator = torch.Generator(device).manual_seed(self._seed)
        return self.generator


class SampleNoise:
    """Noise that is a function of (seed, sample index, restart): a counter-based generator, the same on every device.

    Args:
        seed: of the evaluation.
        index: [N] the samples' numbers in their data set.
        restart: number of the random restart.

    Example:
        >>> x = torch.zeros(3, 1, 2, 2)
        >>> whole = SampleNoise(0, torch.arange(3)).uniform(x)
        >>> alone = SampleNoise(0, torch.tensor([2])).uniform(x[2:])
        >>> torch.equal(whole[2:], alone)
        True
    """

    def __init__(self, seed: int, index: Tensor, restart: int = 0) -> None:
        self.index = index.to(torch.int64)
        self.seed, self.restart = seed, restart
        self.draws = 0

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1) in float32, shaped like ``like`` [N, ...]."""
        return _top_bits(self._bits(like))

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1) in float32 (Box and Muller), shaped like ``like`` [N, ...]."""
        bits = self._bits(like)
        radius = (1 - _top_bits(bits)).log_().mul_(-2).sqrt_()  # 1 - u lies in (0, 1]
        angle = (bits & 0xFFFFFF).to(torch.float32).mul_(2 * math.pi / 2**24)
        return radius.mul_(angle.cos_())

    def select(self, keep: Tensor) -> "SampleNoise":
        """The source of the samples at the positions ``keep`` of the batch."""
        chosen = SampleNoise(self.seed, self.index[keep], self.restart)
        chosen.draws = self.draws
        return chosen

    def _bits(self, like: Tensor) -> Tensor:
        self.draws += 1
        key = self.index.to(like.device)
        for word in (self.seed, self.restart, self.draws):
            key = _mix(key * GOLDEN + word)
        pixel = torch.arange(1, like[0].numel() + 1, device=like.device) if len(like) else key
        return _mix(key[:, None] + pixel * GOLDEN).view(like.shape) if len(like) else key.new_zeros(like.shape)


def content_index(x: Tensor) -> Tensor:
    """[N] int64, a number made from each image's pixels: the same image has the same, whatever its batch.

    Example:
        >>> x = torch.rand(3, 1, 4, 4)
        >>> torch.equal(content_index(x)[2:], content_index(x[2:]))
        True
    """
    bits = canonical(x).flatten(1).view(torch.int32).long()  # [N, P]
    source = SampleNoise(0, torch.zeros(1, dtype=torch.long, device=x.device))
    high, low = ((source.uniform(bits[:1]) * 2**24).long() for _ in range(2))
    return (bits * ((high << 24) | low | 1)).sum(dim=1)  # wraps around: a random linear hash of all pixels


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)).mul_(MIX_1)
    z = z.bitwise_xor_(_shift(z, 27)).mul_(MIX_2)
    return z.bitwise_xor_(_shift(z, 31))


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's is arithmetic."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _top_bits(z: Tensor) -> Tensor:
    return _shift(z, 40).to(torch.float32).mul_(2.0**-24)
