"""Projections against independent float64 references, and random points against their known distributions."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_adv.attacks import Ball, SampleNoise, perturbation_norms
from lightning_adv.attacks.ball import project_onto_l1_ball_and_box
from lightning_adv.errors import InputError

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
EPS = {"Linf": 0.1, "L2": 0.7, "L1": 2.0}


def cloud(count: int = 64, seed: int = 0, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Centers in the box, a fifth of their pixels at its ends, and points around them, many outside the box."""
    generator = torch.Generator().manual_seed(seed)
    center = (torch.rand(count, 2, 5, 5, generator=generator) * 1.5 - 0.25).clamp(0, 1)
    return center, center + spread * torch.randn(center.shape, generator=generator)


def bisected(offset: np.ndarray, cap: np.ndarray, eps: float) -> np.ndarray:
    """Soft threshold with caps, the threshold found by halving an interval 200 times."""
    size, low, high = np.abs(offset), 0.0, np.abs(offset).max() + 1.0
    if np.minimum(size, cap).sum() <= eps:
        return np.sign(offset) * np.minimum(size, cap)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(size - middle, 0, cap).sum() > eps else (low, middle)
    return np.sign(offset) * np.clip(size - high, 0, cap)


def l1_cases() -> dict[str, tuple[Tensor, Tensor, Tensor, float]]:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    low, high = -draw(200, 30), draw(200, 30)
    point = 3 * (draw(200, 30) - 0.5)
    grid = (4 * point).round() / 4
    return {
        "random": (point, low, high, 2.0),
        "small radius": (point, low, high, 0.01),
        "no radius": (point, low, high, 0.0),
        "ties": (grid, (4 * low).round() / 4, (4 * high).round() / 4, 1.5),
        "all equal": (torch.full_like(point, 0.5), -torch.ones_like(low), torch.ones_like(high), 3.0),
        "all inside": (0.01 * point, -torch.ones_like(low), torch.ones_like(high), 5.0),
        "only the box is active": (point, low, high, 1e3),
        "no room on one side": (point, torch.zeros_like(low), high, 2.0),
        "a single pixel": (point[:, :1], low[:, :1], high[:, :1], 0.3),
    }


@pytest.mark.parametrize("case", l1_cases())
def test_the_l1_projection_is_that_of_a_bisection(case):
    point, low, high, eps = l1_cases()[case]
    found = project_onto_l1_ball_and_box(point, low, high, eps).numpy()
    cap = torch.where(point >= 0, high, -low).numpy()
    for row, offset, room in zip(found, point.numpy(), cap, strict=True):
        np.testing.assert_allclose(row, bisected(offset, room, eps), atol=1e-9)


@pytest.mark.parametrize("case", l1_cases())
def test_the_l1_projection_is_feasible_and_no_other_point_is_nearer(case):
    """Optimal if and only if <u - p, z - p> <= 0 for all z of the set; the worst z is a fractional knapsack."""
    point, low, high, eps = l1_cases()[case]
    nearest = project_onto_l1_ball_and_box(point, low, high, eps)
    assert (nearest.abs().sum(dim=1) <= eps + 1e-9).all()
    assert ((nearest >= low - 1e-12) & (nearest <= high + 1e-12)).all()
    pull = point - nearest
    value, order = pull.abs().sort(dim=1, descending=True)
    room = torch.where(pull > 0, high, -low).gather(1, order)
    spent = torch.minimum(room, (eps - (room.cumsum(dim=1) - room)).clamp(min=0))
    assert ((value * spent).sum(dim=1) - (pull * nearest).sum(dim=1) <= 1e-9).all()


def test_the_linf_projection_clips_every_pixel_to_its_interval():
    center, point = cloud()
    expected = np.clip(point.numpy(), np.maximum(center.numpy() - 0.1, 0), np.minimum(center.numpy() + 0.1, 1))
    np.testing.assert_allclose(Ball(center, 0.1).project(point).numpy(), expected, atol=1e-6)


def test_the_l2_projection_is_the_nearest_point_of_the_ball_where_the_box_is_far_away():
    generator = torch.Generator().manual_seed(0)
    center = torch.full((50, 2, 5, 5), 0.5)
    offset = 0.1 * torch.randn(center.shape, generator=generator)
    wide = offset.double().flatten(1)
    expected = wide * (0.4 / wide.norm(dim=1, keepdim=True)).clamp(max=1)
    found = (Ball(center, 0.4, "L2").project(center + offset) - center).flatten(1).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@every_norm
@pytest.mark.parametrize("eps", [0.0, None])
def test_a_projected_point_lies_in_the_ball_and_in_the_box(norm, eps):
    center, point = cloud()
    eps = EPS[norm] if eps is None else eps
    found = Ball(center, eps, norm).project(point)
    assert perturbation_norms(center, found)[norm].max() <= eps + (1e-5 if norm == "L1" else 1e-6)
    assert 0 <= found.min() <= found.max() <= 1


@every_norm
def test_projecting_twice_is_projecting_once(norm):
    center, point = cloud()
    ball = Ball(center, EPS[norm], norm)
    once = ball.project(point)
    torch.testing.assert_close(ball.project(once), once, rtol=0, atol=1e-6)


@every_norm
def test_a_point_inside_stays_where_it_is(norm):
    center, _ = cloud()
    inside = center + (0.5 - center) * 0.01  # towards mid-grey: in the box, and well inside every ball
    torch.testing.assert_close(Ball(center, EPS[norm], norm).project(inside), inside, rtol=0, atol=1e-7)


@every_norm
def test_projecting_brings_no_two_points_further_apart(norm):
    center, first = cloud()
    second = center + 0.5 * torch.randn(center.shape, generator=torch.Generator().manual_seed(9))
    ball = Ball(center, EPS[norm], norm)
    before = (first - second).flatten(1).norm(dim=1)
    after = (ball.project(first) - ball.project(second)).flatten(1).norm(dim=1)
    assert (after <= before + 1e-5).all()


@every_norm
def test_the_ball_of_some_samples_is_theirs(norm):
    center, point = cloud()
    keep = torch.tensor([5, 2, 40])
    ball = Ball(center, EPS[norm], norm)
    assert torch.equal(ball.select(keep).project(point[keep]), ball.project(point)[keep])


@every_norm
def test_projects_images_in_channels_last_layout(norm):
    center, point = cloud()
    plain = Ball(center, EPS[norm], norm).project(point)
    last = Ball(center.to(memory_format=torch.channels_last), EPS[norm], norm)
    torch.testing.assert_close(last.project(point.to(memory_format=torch.channels_last)), plain, rtol=0, atol=1e-6)


def random_offsets(norm: str, eps: float, count: int = 4000, side: int = 2) -> np.ndarray:
    """[count, D] random points of the ball around mid-grey, whose box is not reached, minus the center."""
    center = torch.full((count, 3, side, side), 0.5)
    noise = SampleNoise(0, torch.arange(count))
    return (Ball(center, eps, norm).random_point(noise) - center).flatten(1).double().numpy()


@every_norm
def test_random_points_fill_the_ball_evenly(norm):
    """P(length <= r) = (r / eps)^D for the uniform distribution on a ball of D dimensions under any norm."""
    offsets = random_offsets(norm, 0.4)
    length = np.linalg.norm(offsets, ord={"Linf": np.inf, "L2": 2, "L1": 1}[norm], axis=1) / 0.4
    assert length.max() <= 1 + 1e-5
    assert stats.kstest(np.minimum(length, 1) ** offsets.shape[1], "uniform").pvalue > 0.01


@every_norm
def test_one_pixel_of_a_random_point_has_the_marginal_distribution_of_the_ball(norm):
    offsets = random_offsets(norm, 0.4) / 0.4
    pixels = offsets.shape[1]
    share, law = {
        "Linf": (np.abs(offsets[:, 3]), stats.uniform()),
        "L2": (offsets[:, 3] ** 2, stats.beta(0.5, (pixels + 1) / 2)),
        "L1": (np.abs(offsets[:, 3]), stats.beta(1, pixels)),
    }[norm]
    assert stats.kstest(share, law.cdf).pvalue > 0.01
    assert stats.binomtest(int((offsets[:, 3] > 0).sum()), len(offsets)).pvalue > 0.01


@every_norm
def test_random_points_at_the_corners_of_the_box_stay_inside(norm):
    center = cloud()[0].round()
    point = Ball(center, EPS[norm], norm).random_point(SampleNoise(0, torch.arange(len(center))))
    assert 0 <= point.min() <= point.max() <= 1
    assert perturbation_norms(center, point)[norm].max() <= EPS[norm] + 1e-5


@every_norm
def test_the_ascent_direction_has_unit_length_and_a_zero_gradient_has_none(norm):
    center = torch.full((8, 2, 5, 5), 0.5)
    grad = torch.randn(center.shape, generator=torch.Generator().manual_seed(0))
    grad[0] = 0
    step = Ball(center, EPS[norm], norm).ascent_direction(grad, center)
    length = perturbation_norms(torch.zeros_like(step), step)[norm]
    torch.testing.assert_close(length, torch.tensor([0.0] + [1.0] * 7), rtol=0, atol=1e-5)


@every_norm
@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_to_ascend_is_to_step_and_to_project_however_small_the_gradient(norm, scale):
    center, point = cloud(count=8)
    ball = Ball(center, EPS[norm], norm)
    x = ball.project(point)
    grad = scale * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    grad[0] = 0
    expected = ball.project(x + 0.3 * EPS[norm] * ball.ascent_direction(grad, x))
    torch.testing.assert_close(ball.ascend(x, grad, 0.3 * EPS[norm]), expected, rtol=0, atol=1e-6)


def test_an_l1_step_leaves_out_pixels_that_the_box_stops():
    center = torch.tensor([1.0, 0.0, 0.5, 0.5]).view(1, 1, 2, 2)
    grad = torch.tensor([9.0, -8.0, -2.0, 1.0]).view(1, 1, 2, 2)
    step = Ball(center, 1.0, "L1").ascent_direction(grad, center)
    assert step.flatten().tolist() == [0, 0, -1, 0]


def test_the_lengths_of_a_perturbation_are_those_of_numpy():
    center, point = cloud(count=5)
    offset = (point - center).flatten(1).numpy()
    for norm, order in (("Linf", np.inf), ("L2", 2), ("L1", 1)):
        expected = np.linalg.norm(offset, ord=order, axis=1)
        np.testing.assert_allclose(perturbation_norms(center, point)[norm].numpy(), expected, rtol=1e-5)


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match=r"norm must be one of Linf, L2, L1, got 'l2'"):
        Ball(torch.zeros(1, 1, 2, 2), 0.1, "l2")
