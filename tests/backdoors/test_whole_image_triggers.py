"""Sinusoids, warps, grey levels and smooth clouds against what their equations give."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.backdoors import BPP, SIG, LowFrequency, WaNet, universal_perturbation
from lightning_adv.backdoors.spectrum import lowpass
from lightning_adv.errors import InputError


def random_images(count, *shape, seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def test_a_sinusoid_is_the_same_in_every_row_and_channel_and_has_its_frequency_and_amplitude():
    added = SIG("20/255", frequency=6)(torch.full((1, 3, 32, 32), 0.5))[0] - 0.5
    assert torch.equal(added, added[:1, :1].expand_as(added))
    by_hand = torch.tensor([20 / 255 * math.sin(2 * math.pi * column * 6 / 32) for column in range(32)])
    torch.testing.assert_close(added[0, 0], by_hand, rtol=0, atol=1e-6)
    assert torch.fft.rfft(added[0, 0]).abs().argmax() == 6


def test_a_warp_moves_pixels_by_its_strength_and_leaves_a_flat_image_as_it_is():
    trigger, still = WaNet(grid=4, strength=0.5, seed=1), torch.full((1, 3, 32, 32), 0.25)
    torch.testing.assert_close(trigger(still), still)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramps = torch.stack([columns, rows])[None] / 31  # a pixel's value is its place: the trigger's is where it came from
    places = trigger.field((2, 32, 32))[0]
    torch.testing.assert_close(trigger(ramps)[0], (places.permute(2, 0, 1) + 1) / 2, rtol=0, atol=1e-5)
    moved = (trigger(ramps) - ramps)[..., 4:-4, 4:-4].abs() * 32
    assert 0.1 < moved.mean() < 0.4  # the vectors' mean is s / 2 pixels where they are drawn, less between them
    rough = moved[..., 1:] - moved[..., :-1]
    assert rough.abs().max() < 0.2  # neighbours move together


def test_every_covered_image_is_warped_afresh_around_the_one_field():
    trigger, image = WaNet(), random_images(1, 1, 16, 16).expand(600, -1, -1, -1)
    covers = trigger.cover(image, 0.6, seed=0, index=torch.arange(600))
    assert len(covers.flatten(1).unique(dim=0)) == 600
    assert not torch.equal(covers, trigger.cover(image, 0.6, seed=1, index=torch.arange(600)))
    ramp = torch.linspace(0, 1, 16).expand(600, 1, 16, 16)
    shift = (trigger.cover(ramp, 0.6, 0, torch.arange(600)) - trigger(ramp))[..., 4:-4] * 2 * 16  # in units of n
    assert shift.abs().max() <= 1 + 1e-4
    assert shift.mean(dim=0).abs().max() < 0.12  # five standard deviations of a mean of 600
    assert shift.var() == pytest.approx(1 / 3, rel=0.02)


def test_grey_levels_are_those_next_to_each_pixel():
    x = random_images(4, 3, 9, 7)
    levels = torch.linspace(0, 1, 8)
    nearest = levels[(x[..., None] - levels).abs().argmin(dim=-1)]
    torch.testing.assert_close(BPP(levels=8)(x), nearest)


def test_dithering_passes_errors_on_as_pixel_by_pixel():
    x = random_images(2, 1, 5, 7)
    by_hand = x.clone()
    for row in range(5):
        for column in range(7):
            old = by_hand[:, :, row, column].clone()
            by_hand[:, :, row, column] = (old * 2).round().clamp(0, 2) / 2
            error = old - by_hand[:, :, row, column]
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if row + down < 5 and 0 <= column + right < 7:
                    by_hand[:, :, row + down, column + right] += error * share / 16
    torch.testing.assert_close(BPP(levels=3, dither=True)(x), by_hand)
    assert torch.equal(BPP(levels=2, dither=True)(x[:, :, :1, :1]), x[:, :, :1, :1].round())


def test_dithering_keeps_the_mean_of_an_image_that_rounding_loses():
    x = torch.full((1, 1, 32, 32), 0.07)
    assert BPP(levels=8)(x).max() == 0
    assert BPP(levels=8, dither=True)(x).mean() == pytest.approx(0.07, abs=0.005)


def test_a_covered_image_has_the_rounding_error_of_a_poisoned_one():
    trigger, poisoned = BPP(levels=4), random_images(5, 1, 6, 6)
    trigger.prepare([(part, torch.zeros(len(part)), torch.arange(len(part))) for part in poisoned.split(2)])
    flat = torch.full((40, 1, 6, 6), 0.5)
    added = trigger.cover(flat, 0.6, seed=0, index=torch.arange(40)) - flat
    errors = trigger(poisoned) - poisoned
    distance = torch.cdist(added.flatten(1), errors.flatten(1))
    assert distance.amin(dim=1).max() < 1e-3
    assert len(distance.argmin(dim=1).unique()) == 5


def test_the_low_frequencies_of_an_image_are_a_projection_onto_cosines():
    x = random_images(2, 3, 8, 6)
    once = lowpass(x, 3)
    torch.testing.assert_close(lowpass(once, 3), once)
    torch.testing.assert_close(lowpass(x, 1), x.mean(dim=(2, 3), keepdim=True).expand_as(x))
    wave = torch.cos(torch.pi / 8 * 2 * (torch.arange(8) + 0.5)).view(8, 1).expand(8, 6)
    torch.testing.assert_close(lowpass(wave, 3), wave, rtol=0, atol=1e-6)
    assert lowpass(wave, 2).abs().max() < 1e-6


def test_clouds_reach_their_eps_in_low_frequencies_alone():
    v = LowFrequency("16/255", bands=4, seed=1).perturbation((3, 32, 32))
    assert v.abs().max() == pytest.approx(16 / 255)
    torch.testing.assert_close(lowpass(v, 4), v)
    assert not torch.equal(v, LowFrequency("16/255", bands=4, seed=2).perturbation((3, 32, 32)))


def test_a_smooth_universal_perturbation_of_a_linear_model_is_the_smoothed_sign_of_the_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    found = universal_perturbation(model, torch.full((9, 1, 8, 8), 0.5), target=1, eps=0.1, steps=20, bands=3).v
    weight = model[1].weight.detach()
    smooth = lowpass((weight[1] - weight[0]).sign().view(1, 8, 8), 3)
    torch.testing.assert_close(found, 0.1 * smooth / smooth.abs().max())
    assert F.cosine_similarity(found.flatten(), (weight[1] - weight[0]), dim=0) > 0
    with pytest.raises(InputError, match="9 bands of frequencies do not fit images of 8 x 8"):
        universal_perturbation(model, torch.full((9, 1, 8, 8), 0.5), target=1, bands=9)
