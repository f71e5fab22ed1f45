import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.purifiers import (
    JPEG,
    BitDepth,
    DifferentiableJPEG,
    GaussianBlur,
    KMeansQuantization,
    MedianFilter,
    Randomized,
    Sequential,
    TotalVariation,
    content_index,
)
from tests.purifiers.problems import digits, scenes

PURIFIERS = {
    "jpeg": JPEG(75),
    "differentiable_jpeg": DifferentiableJPEG(75),
    "blur": GaussianBlur(1, 1),
    "median": MedianFilter(3),
    "bits": BitDepth(3),
    "kmeans": KMeansQuantization(6),
    "tv": TotalVariation(),
    "sequential": Sequential([TotalVariation(steps=5), KMeansQuantization(6)]),
    "randomized": Randomized([TotalVariation(steps=5), MedianFilter(3), BitDepth(2)]),
}
every = pytest.mark.parametrize("purifier", PURIFIERS.values(), ids=PURIFIERS)


@every
@pytest.mark.parametrize("images", [digits(7), scenes(7)], ids=["grey", "colour"])
def test_the_result_is_an_image_of_the_same_shape_in_0_1_and_the_input_stays(purifier, images):
    before = images.clone()
    purified = purifier(images)
    assert purified.shape == images.shape
    assert purified.dtype == torch.float32
    assert float(purified.min()) >= 0
    assert float(purified.max()) <= 1
    assert torch.equal(images, before)


@every
@pytest.mark.parametrize("size", [1, 3])
def test_the_same_seed_gives_the_same_bits_whatever_the_batch(purifier, size):
    images, index = scenes(7), torch.tensor([5, 3, 900, 0, 7, 8, 2**40])
    whole = purifier(images, index, draw=2)
    parts = [purifier(*part, draw=2) for part in zip(images.split(size), index.split(size), strict=True)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(purifier(images), torch.cat([purifier(part) for part in images.split(size)]))


@every
def test_draws_and_seeds_differ_where_it_says_randomised_and_only_there(purifier):
    images = scenes(8)
    index = torch.arange(8)
    same = torch.equal(purifier(images, index, 0), purifier(images, index, 1))
    assert same != purifier.randomised


@every
def test_the_global_generator_is_left_alone(purifier):
    state = torch.random.get_rng_state()
    purifier(scenes(2))
    assert torch.equal(state, torch.random.get_rng_state())


@every
def test_a_gradient_comes_back_where_it_says_differentiable_or_by_the_surrogate(purifier):
    images = scenes(2).requires_grad_(True)
    assert purifier(images).requires_grad == purifier.differentiable
    purified = purifier.with_gradient(images)
    assert torch.allclose(purified, purifier(images), atol=1e-6)
    (gradient,) = torch.autograd.grad(purified.sum(), images)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0


@every
def test_it_runs_inside_inference_mode_and_in_half_precision(purifier):
    images = scenes(2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(purifier(images), purifier(images.clone()))
        assert purifier(images).dtype == torch.float32


@pytest.mark.parametrize("purifier", [GaussianBlur(0, 0.3), TotalVariation()], ids=["blur", "tv"])
def test_black_and_white_pixels_do_not_mask_the_gradient(purifier):
    images = (digits(4) > 0.5).float().requires_grad_(True)
    purified = purifier(images)
    assert torch.equal(purified.detach().clamp(0, 1), purified.detach())
    weights = torch.rand(purified.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((weights * purified).sum(), images)
    reached = float((gradient != 0).float().mean())
    assert reached > (0.95 if isinstance(purifier, GaussianBlur) else 0.3)  # half of the pixels are dropped


def test_images_that_differ_in_one_pixel_have_different_numbers():
    images = torch.rand(1, 1, 4, 4).repeat(17, 1, 1, 1)
    for pixel in range(16):
        images[pixel].flatten()[pixel] += 1e-6
    assert len(content_index(images).unique()) == 17


def test_a_sequence_is_one_purifier_after_the_other():
    images = scenes(3)
    chained = Sequential([MedianFilter(3), BitDepth(2)])
    assert torch.equal(chained(images), BitDepth(2)(MedianFilter(3)(images)))
    assert not chained.randomised
    assert not chained.differentiable


def test_a_random_choice_takes_every_part_about_equally_often():
    images = torch.full((400, 1, 2, 2), 0.4)
    purified = Randomized([BitDepth(1), BitDepth(2)])(images, torch.arange(400))
    share = float((purified[:, 0, 0, 0] == 0).float().mean())
    assert 0.4 < share < 0.6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BitDepth(1)(torch.zeros(1, 4, 4)), r"must be a float tensor N x C x H x W, got .* \(1, 4, 4\)"),
        (lambda: BitDepth(1)(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), "divided by 255"),
        (lambda: BitDepth(1)(torch.zeros(2, 1, 4, 4), torch.arange(3)), "index must be 2 integers"),
        (lambda: Sequential([]), "Sequential needs at least one purifier"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
