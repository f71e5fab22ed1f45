import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter
from sklearn.cluster import KMeans

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers import (
    JPEG,
    BitDepth,
    DifferentiableJPEG,
    GaussianBlur,
    KMeansQuantization,
    MedianFilter,
    TotalVariation,
)
from tests.purifiers.problems import digits, long_run, scenes, total_variation_energy


def written_and_read(image, quality):
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).view(*pixels.shape).permute(2, 0, 1)


@pytest.mark.parametrize("quality", [10, 90])
@pytest.mark.parametrize("images", [digits(6), scenes(6)], ids=["grey", "colour"])
def test_jpeg_is_bit_for_bit_what_pillow_writes_and_reads(images, quality):
    coded = (JPEG(quality)(images) * 255).round().byte()
    assert torch.equal(coded, torch.stack([written_and_read(image, quality) for image in images]))


@pytest.mark.parametrize("images", [digits(6), scenes(6)], ids=["grey", "colour"])
def test_differentiable_jpeg_is_near_the_real_codec(images):
    difference = (DifferentiableJPEG(75)(images) - JPEG(75)(images)).abs()
    assert float(difference.mean()) * 255 < 3


@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(0, 0.3), (1.5, 0), (0.8, 2.0)])
def test_gaussian_blur_is_scipys(sigma_x, sigma_y):
    images = scenes(2)
    theirs = gaussian_filter(images.double().numpy(), (0, 0, sigma_y, sigma_x), mode="mirror", truncate=4.0)
    assert torch.allclose(GaussianBlur(sigma_x, sigma_y)(images).double(), torch.from_numpy(theirs), atol=1e-6)


@pytest.mark.parametrize("size", [3, 5])
def test_median_filter_is_scipys(size):
    images = scenes(2)
    theirs = median_filter(images.numpy(), size=(1, 1, size, size), mode="mirror")
    assert torch.equal(MedianFilter(size)(images), torch.from_numpy(theirs))


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bit_depth_takes_the_nearest_of_its_levels(bits):
    images = scenes(2)
    purified = BitDepth(bits)(images)
    levels = torch.linspace(0, 1, 2**bits)
    nearest = (images[..., None] - levels).abs().amin(dim=-1)
    assert torch.allclose((purified - images).abs(), nearest, atol=1e-6)
    assert len(purified.unique()) <= 2**bits


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # some digits have few grey levels
@pytest.mark.parametrize(("images", "colours"), [(digits(8), 16), (scenes(8), 50)], ids=["grey", "colour"])
def test_k_means_is_within_5_percent_of_scikit_learns_error(images, colours):
    purified = KMeansQuantization(colours)(images)
    ours = float((purified - images).square().sum())
    theirs = 0.0
    for image in images:
        pixels = image.flatten(1).T.double().numpy()
        theirs += KMeans(colours, n_init=1, random_state=0).fit(pixels).inertia_
    assert ours < 1.05 * theirs
    assert all(len(image.flatten(1).T.unique(dim=0)) <= colours for image in purified)


def test_k_means_leaves_an_image_of_few_colours_as_it_is():
    images = (digits(3) > 0.5).float()
    assert torch.allclose(KMeansQuantization(16)(images), images)


@pytest.mark.parametrize("images", [digits(4), scenes(4)], ids=["grey", "colour"])
def test_total_variation_is_within_a_grey_level_of_the_minimiser(images):
    kept = (SampleNoise(0, torch.arange(4)).uniform(images) >= 0.5).double()
    minimiser = long_run(images, kept, weight=0.03)
    purified = TotalVariation()(images, index=torch.arange(4)).double()
    assert float((purified - minimiser).abs().mean()) * 255 < 1
    least, energy = (total_variation_energy(u, images.double(), kept, 0.03) for u in (minimiser, purified))
    assert float(energy.sum()) <= 1.01 * float(least.sum())


def test_total_variation_is_the_same_with_a_graph_and_without():
    images, index = scenes(3), torch.arange(3)
    purifier = TotalVariation(steps=25)
    with_graph = purifier(images.clone().requires_grad_(True), index)
    assert with_graph.requires_grad
    assert torch.allclose(with_graph, purifier(images, index), atol=1e-5)


def test_total_variation_of_a_step_is_known():
    """Of a step of height 1 between halves w wide, each side moves towards the other by weight / w."""
    image = torch.zeros(1, 1, 4, 8)
    image[..., 4:] = 1
    purified = TotalVariation(dropout=0, weight=0.2, steps=400)(image)
    assert torch.allclose(purified[0, 0, :, 0], torch.full((4,), 0.05), atol=1e-3)
    assert torch.allclose(purified[0, 0, :, 7], torch.full((4,), 0.95), atol=1e-3)


def test_total_variation_has_the_gradient_that_differences_show():
    images = scenes(1, size=6)
    images.requires_grad_(True)
    purifier = TotalVariation(weight=0.05, steps=25)
    index, direction = torch.zeros(1, dtype=torch.long), torch.randn(images.shape, generator=torch.Generator())
    (gradient,) = torch.autograd.grad((purifier(images, index) * direction).sum(), images)
    step = 1e-2
    up, down = (purifier(images.detach() + s * direction, index) for s in (step, -step))
    measured = float(((up - down) * direction).sum()) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JPEG(0), "quality must lie in 1 .. 100, got 0"),
        (lambda: GaussianBlur(sigma_x=-1), "sigma_x must be finite and not negative"),
        (lambda: MedianFilter(4), "size must be odd and at least 3, got 4"),
        (lambda: BitDepth(9), "bits must lie in 1 .. 8, got 9"),
        (lambda: KMeansQuantization(1), "colours must be at least 2, got 1"),
        (lambda: TotalVariation(dropout=1), r"dropout must lie in \[0, 1\), got 1"),
        (lambda: TotalVariation(weight=0), "weight must be positive"),
        (lambda: JPEG()(torch.rand(1, 2, 8, 8)), "1 or 3 channels, got 2"),
        (lambda: GaussianBlur(9, 9)(torch.rand(1, 1, 8, 8)), "needs images of more than 36 pixels"),
        (lambda: MedianFilter(9)(torch.rand(1, 1, 4, 4)), "size 9 does not fit images of 4 x 4 pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
