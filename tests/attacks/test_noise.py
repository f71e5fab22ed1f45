"""The noise is what it says: uniform or normal, keyed by sample, independent of everything else."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_adv.attacks import DeviceNoise, SampleNoise

IMAGES = torch.empty(200, 3, 8, 8)


def sample_noise(seed: int = 0, restart: int = 0, count: int = 200) -> SampleNoise:
    return SampleNoise(seed, torch.arange(count), restart)


def correlation(first: Tensor, second: Tensor) -> float:
    return float(np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1])


@pytest.mark.parametrize("noise", [sample_noise(), DeviceNoise(torch.Generator().manual_seed(0))])
def test_uniform_noise_is_uniform(noise):
    drawn = noise.uniform(IMAGES)
    assert drawn.dtype == torch.float32
    assert drawn.shape == IMAGES.shape
    assert 0 <= drawn.min() <= drawn.max() < 1
    flat = drawn.flatten().numpy()
    assert stats.kstest(flat, "uniform").pvalue > 0.01
    assert stats.chisquare(np.histogram(flat, bins=64, range=(0, 1))[0]).pvalue > 0.01


@pytest.mark.parametrize("noise", [sample_noise(), DeviceNoise(torch.Generator().manual_seed(0))])
def test_normal_noise_is_normal(noise):
    drawn = noise.normal(IMAGES)
    assert drawn.dtype == torch.float32
    assert drawn.shape == IMAGES.shape
    flat = drawn.flatten().double().numpy()
    assert stats.kstest(flat, "norm").pvalue > 0.01
    error = len(flat) ** -0.5
    assert abs(flat.mean()) < 4 * error
    assert abs(flat.var() - 1) < 4 * error * 2**0.5
    assert abs(stats.skew(flat)) < 4 * error * 6**0.5
    assert abs(stats.kurtosis(flat)) < 4 * error * 24**0.5


def test_low_bits_are_as_random_as_high_ones():
    drawn = (sample_noise().uniform(IMAGES) * 2**24).long() % 16
    assert stats.chisquare(torch.bincount(drawn.flatten(), minlength=16).numpy()).pvalue > 0.01


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_samples_restarts_draws_seeds_and_pixels_are_independent(kind):
    def draw(noise: SampleNoise) -> Tensor:
        return getattr(noise, kind)(IMAGES)

    noise = sample_noise()
    first, second = draw(noise), draw(noise)
    others = {
        "draw": second,
        "restart": draw(sample_noise(restart=1)),
        "seed": draw(sample_noise(seed=1)),
        "neighbour": first.roll(1, dims=0),
        "pixel": first.roll(1, dims=-1),
        "draw of the neighbour": second.roll(1, dims=0),
    }
    bound = 4 * first.numel() ** -0.5  # four standard errors
    assert {name: abs(correlation(first, other)) < bound for name, other in others.items()} == dict.fromkeys(
        others, True
    )


def test_no_two_samples_of_a_large_data_set_share_their_noise():
    noise = SampleNoise(0, torch.arange(50_000)).uniform(torch.empty(50_000, 1, 1, 3))
    assert len(noise.flatten(1).unique(dim=0)) == 50_000


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_the_bits_of_a_sample_do_not_depend_on_its_batch(kind):
    whole = getattr(sample_noise(), kind)(IMAGES)
    keep = torch.tensor([150, 3, 77])
    alone = getattr(SampleNoise(0, keep), kind)(IMAGES[keep])
    assert torch.equal(whole[keep], alone)


def test_selected_samples_go_on_with_their_own_noise():
    noise, twin = sample_noise(), sample_noise()
    keep = torch.tensor([8, 0, 199])
    noise.uniform(IMAGES)
    twin.uniform(IMAGES)
    assert torch.equal(noise.select(keep).normal(IMAGES[keep]), twin.normal(IMAGES)[keep])


def test_the_layout_and_the_default_precision_do_not_change_the_noise():
    plain = sample_noise().uniform(IMAGES)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        low = sample_noise().uniform(IMAGES.to(memory_format=torch.channels_last))
        device = DeviceNoise().uniform(IMAGES), DeviceNoise().normal(IMAGES)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(plain, low)
    assert [noise.dtype for noise in device] == [torch.float32, torch.float32]


def test_noise_for_no_samples_is_empty():
    empty = SampleNoise(0, torch.empty(0, dtype=torch.int64)).uniform(IMAGES[:0])
    assert empty.shape == (0, 3, 8, 8)


def test_the_first_numbers_are_those_of_every_version():
    """Results of an evaluation are comparable over releases only if its noise is frozen."""
    drawn = SampleNoise(0, torch.tensor([0])).uniform(torch.empty(1, 1, 1, 3)).flatten()
    again = SampleNoise(0, torch.tensor([0, 1])).uniform(torch.empty(2, 1, 1, 3))[0].flatten()
    assert torch.equal(drawn, again)
    assert drawn.tolist() == pytest.approx(reference_uniforms(seed=0, index=0, restart=0, draw=1, count=3), abs=0)


def reference_uniforms(*, seed: int, index: int, restart: int, draw: int, count: int) -> list[float]:
    """SplitMix64 in Python integers: the top 24 bits of mix(key + pixel * golden), pixels numbered from 1."""
    word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        return z ^ (z >> 31)

    key = index
    for part in (seed, restart, draw):
        key = mix((key * golden + part) & word)
    return [(mix((key + pixel * golden) & word) >> 40) / 2**24 for pixel in range(1, count + 1)]


def test_own_noise_follows_the_global_seed_and_leaves_a_given_generator_in_charge():
    torch.manual_seed(5)
    first = DeviceNoise().uniform(IMAGES)
    second = DeviceNoise().uniform(IMAGES)
    torch.manual_seed(5)
    again = DeviceNoise().uniform(IMAGES)
    assert torch.equal(first, again)
    assert abs(correlation(first, second)) < 4 * first.numel() ** -0.5
    given = DeviceNoise(torch.Generator().manual_seed(3)).uniform(IMAGES)
    assert torch.equal(given, torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(3)))
