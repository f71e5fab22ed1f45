"""Mutations stay in their region and in [0, 1], have the law they claim, and belong to (seed, sample, draw)."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_adv.detectors import AffineMutation, GaussianMutation, PaperMutation, SmoothMutation, UniformMutation
from lightning_adv.detectors.mutation import mutation_noise
from lightning_adv.errors import InputError

OPERATORS = [
    PaperMutation(5, clip=True),
    UniformMutation(0.1),
    UniformMutation(0.5, "L2"),
    GaussianMutation(0.1),
    SmoothMutation(0.1, cell=2),
    AffineMutation(0.1),
]


def grey(count: int, channels: int = 1, side: int = 8) -> Tensor:
    return torch.full((count, channels, side, side), 0.5)


def mutated(operator, x: Tensor, seed: int = 0) -> Tensor:
    index = torch.arange(len(x))
    return operator(x, mutation_noise(seed, index, torch.zeros_like(index)))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: type(each).__name__)
def test_a_mutation_is_an_image(operator):
    for x in (torch.zeros(50, 3, 5, 7), torch.ones(50, 3, 5, 7)):
        out = mutated(operator, x)
        assert out.shape == x.shape
        assert 0 <= out.min() <= out.max() <= 1
        assert out.dtype == torch.float32


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: type(each).__name__)
def test_a_mutation_belongs_to_its_seed_sample_and_draw_and_to_nothing_else(operator):
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    index, draw = torch.tensor([5, 5, 9, 9]), torch.tensor([0, 1, 0, 1])
    whole = operator(x, mutation_noise(0, index, draw))
    for i in range(4):
        alone = operator(x[i : i + 1], mutation_noise(0, index[i : i + 1], draw[i : i + 1]))
        assert torch.allclose(alone, whole[i : i + 1], atol=1e-7)
    same = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(1)).expand(200, 2, 6, 6)
    numbers, zero = torch.arange(200), torch.zeros(200, dtype=torch.int64)
    one = operator(same, mutation_noise(0, numbers, zero))
    for other in ((1, numbers, zero), (0, numbers + 200, zero), (0, numbers, zero + 1)):
        assert (operator(same, mutation_noise(*other)) != one).flatten(1).any(dim=1).float().mean() > 0.7


@pytest.mark.parametrize("operator", [SmoothMutation(0.1, cell=3), AffineMutation()], ids=["smooth", "affine"])
def test_a_mutation_is_the_same_to_the_bit_in_a_batch_of_any_size(operator):
    x = torch.rand(300, 3, 13, 16, generator=torch.Generator().manual_seed(0))
    whole = mutated(operator, x)
    for part in (slice(0, 1), slice(7, 10), slice(100, 164)):
        index = torch.arange(len(x))[part]
        alone = operator(x[part], mutation_noise(0, index, torch.zeros_like(index)))
        assert torch.equal(alone, whole[part])


def of_each_kind(region: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the paper's operator changes of grey images: light, occlusion and blackout, in their own thirds."""
    change = (mutated(PaperMutation(region), grey(6000)) - 0.5)[:, 0]
    touched = (change.abs() > 1e-9).flatten(1).sum(dim=1)
    black = change.flatten(1).amin(dim=1) < -0.4 * region
    return change[touched == 64], change[(touched > 0) & (touched < 64) & ~black], change[black]


@pytest.mark.parametrize("region", [1, 5, 10])
def test_the_papers_operator_is_region_times_light_occlusion_or_blackout_a_third_each(region):
    light, occlusion, blackout = of_each_kind(region)
    shares = [len(each) / 6000 for each in (light, occlusion, blackout)]
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 6], abs=0.02)  # the other half of the blackouts does nothing
    assert blackout.unique().tolist() == pytest.approx([-region, 0], abs=1e-5), "not cut to [0, 1]"
    assert 0.7 * region * 0.005 < occlusion.abs().max() <= region * 0.005 + 1e-6
    assert light.flatten(1).std(dim=1).max() < 1e-6, "light is the same everywhere"
    noise = occlusion[occlusion.abs() > 1e-9] / region
    assert (light[:, 0, 0] / region).std().item() == pytest.approx(noise.std().item() / 64**0.5, rel=0.1)
    inner = (occlusion.abs() > 1e-9).flatten(1).sum(dim=1) == 9
    own = occlusion[inner].flatten(1).abs()
    assert (own.amax(dim=1) / own.topk(9).values[:, -1]).median() > 20, "every pixel has a divisor of its own"


def test_cut_to_images_the_papers_blackout_is_black_whatever_the_region():
    index = torch.arange(2000)
    drawn = [PaperMutation(region, clip=True)(grey(2000), mutation_noise(0, index, index)) for region in (1, 10)]
    black = [each.flatten(1).amin(dim=1) == 0 for each in drawn]
    assert torch.equal(*black)
    assert black[0].float().mean().item() == pytest.approx(1 / 6, abs=0.03)


def test_the_papers_rectangle_has_sides_of_one_to_three_and_lies_anywhere_inside():
    touched = of_each_kind(1)[1].abs() > 1e-9
    heights, widths = touched.any(dim=2).sum(dim=1), touched.any(dim=1).sum(dim=1)
    for sides in (heights, widths):
        assert stats.chisquare(torch.bincount(sides, minlength=4)[1:].numpy()).pvalue > 0.001
    assert touched.any(dim=0).all(), "every pixel is reached"


def test_the_balls_are_filled_uniformly():
    cube = (mutated(UniformMutation(0.1), grey(500)) - 0.5).flatten()
    assert stats.kstest(cube[:5000].numpy(), "uniform", (-0.1, 0.2)).pvalue > 0.001
    ball = (mutated(UniformMutation(0.3, "L2"), grey(4000)) - 0.5).flatten(1).norm(dim=1) / 0.3
    assert stats.kstest((ball**64).numpy(), "uniform").pvalue > 0.001


def test_gaussian_noise_has_its_standard_deviation():
    change = mutated(GaussianMutation(0.05), grey(500)) - 0.5
    assert change.std().item() == pytest.approx(0.05, rel=0.02)


def test_smooth_noise_is_normal_at_its_nodes_and_a_line_between_them():
    """Nodes lie in the middle of every third pixel; neighbours are thirds of the way apart."""
    change = mutated(SmoothMutation(0.05, cell=3), grey(4000, side=9)) - 0.5
    middle = change[:, :, 1::3, 1::3]
    assert middle.std().item() == pytest.approx(0.05, rel=0.03)
    assert stats.kstest((middle[:, 0, 0, 0] / 0.05).numpy(), "norm").pvalue > 0.001
    assert torch.allclose(change[:, :, 1, 2], (2 * change[:, :, 1, 1] + change[:, :, 1, 4]) / 3, atol=1e-6)
    assert torch.allclose(change[:, :, 0], change[:, :, 1], atol=1e-6), "constant beyond the first node"
    alone = mutated(SmoothMutation(0.05, cell=1), grey(500)) - 0.5
    assert alone.std().item() == pytest.approx(0.05, rel=0.02)


def test_a_shift_moves_by_up_to_its_share_of_the_side():
    x = torch.zeros(500, 1, 21, 41)
    x[:, :, 10, 20] = 1.0
    y = mutated(AffineMutation(shift=0.1, degrees=0, scale=0), x)
    assert torch.allclose(y.sum(dim=(1, 2, 3)), torch.ones(500), atol=1e-4)  # a pixel that was moved, and no other
    down = (y.sum(dim=3)[:, 0] * torch.arange(21)).sum(dim=1) - 10
    right = (y.sum(dim=2)[:, 0] * torch.arange(41)).sum(dim=1) - 20
    for moved, most in ((down, 2.1), (right, 4.1)):
        assert stats.kstest(moved.numpy(), "uniform", (-most, 2 * most)).pvalue > 0.001


def test_a_turn_keeps_the_middle_and_distances_on_images_that_are_no_squares_too():
    x = torch.zeros(200, 1, 31, 61)
    x[:, :, 15, 45] = 1.0  # 15 pixels to the right of the middle
    y = mutated(AffineMutation(shift=0, degrees=30, scale=0), x)[:, 0]
    mass = y.sum(dim=(1, 2))
    down = (y.sum(dim=2) * torch.arange(31)).sum(dim=1) / mass - 15
    right = (y.sum(dim=1) * torch.arange(61)).sum(dim=1) / mass - 30
    assert torch.allclose((down.square() + right.square()).sqrt(), torch.full((200,), 15.0), atol=0.3)
    degrees = torch.rad2deg(torch.atan2(down, right))
    assert degrees.abs().max().item() == pytest.approx(30, abs=1.5)
    assert stats.kstest(degrees.numpy(), "uniform", (-30, 60)).pvalue > 0.001


def test_a_scale_is_a_share_to_either_side():
    x = torch.zeros(400, 1, 41, 41)
    x[:, :, 20, 35] = 1.0
    y = mutated(AffineMutation(shift=0, degrees=0, scale=0.2), x)[:, 0]
    right = (y.sum(dim=1) * torch.arange(41)).sum(dim=1) / y.sum(dim=(1, 2)) - 20
    assert right.min().item() == pytest.approx(15 / 1.2, abs=0.3)
    assert right.max().item() == pytest.approx(15 / 0.8, abs=0.3)


@pytest.mark.parametrize(
    "numbers", [{"shift": -0.1}, {"scale": 1.0}, {"shift": 0, "degrees": 0, "scale": 0}, {"degrees": -1}]
)
def test_a_change_of_place_that_cannot_be_meant_is_refused(numbers):
    with pytest.raises(InputError, match="AffineMutation needs shift, degrees and scale"):
        AffineMutation(**numbers)


def test_a_grid_needs_a_cell():
    with pytest.raises(InputError, match="cell must be at least 1 pixel"):
        SmoothMutation(0.1, cell=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PaperMutation(0),
        lambda: UniformMutation("0/255"),
        lambda: GaussianMutation(-1),
        lambda: SmoothMutation(0),
    ],
)
def test_a_region_without_extent_is_refused(make):
    with pytest.raises(InputError, match="must be positive"):
        make()
