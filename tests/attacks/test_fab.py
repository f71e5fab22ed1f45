"""FAB: its projections are the solver's, its images the nearest there are on a linear model, the peer's on digits."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor, nn

from lightning_adv.attacks import FAB, Norm
from lightning_adv.attacks.fab import step_to_plane
from lightning_adv.errors import InputError

from .minimal_norm import (
    distance,
    linear_problem,
    minimal_distance,
    planes,
    predicted,
)
from .problems import tilted_problem
from .test_parity import imported

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
EPS: dict[Norm, float] = {"Linf": 0.02, "L2": 0.2, "L1": 1.2}


def solved(x: np.ndarray, normal: np.ndarray, amount: float, norm: Norm) -> float:
    """Length of the shortest step inside the box to the plane, by a general solver."""
    size = len(x)
    bounds = [(-value, 1 - value) for value in x]
    if norm == "L2":
        found = optimize.minimize(
            lambda d: d @ d, np.zeros(size), jac=lambda d: 2 * d, bounds=bounds, method="SLSQP",
            constraints={"type": "eq", "fun": lambda d: normal @ d - amount, "jac": lambda d: normal},
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        return float(np.sqrt(found.fun))
    eye = np.eye(size)
    slacks = np.ones((size, 1)) if norm == "Linf" else eye  # |d_i| <= s, or s_i
    above = np.block([[eye, -slacks], [-eye, -slacks]])
    cost = np.concatenate([np.zeros(size), np.ones(slacks.shape[1])])
    plane = np.concatenate([normal, np.zeros(slacks.shape[1])])[None]
    found = optimize.linprog(
        cost, above, np.zeros(2 * size), plane, [amount], bounds + [(0, None)] * slacks.shape[1], method="highs"
    )
    return float(found.fun)


def problems(count: int = 24, size: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Planes from near to nearly out of reach, on both sides; pixels at the ends of the box and without a slope."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(count, size, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    normal = torch.randn(count, size, generator=generator)
    normal[:, 3] = 0
    sign = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0)
    reach = (normal.abs() * torch.where(normal * sign[:, None] > 0, 1 - x, x)).sum(dim=1)
    return x, normal, sign * reach * torch.linspace(0.01, 0.99, count)


@every_norm
def test_the_step_to_a_plane_is_the_solvers(norm):
    x, normal, amount = problems()
    step = step_to_plane(x, normal, amount, norm)
    torch.testing.assert_close((step * normal).sum(dim=1), amount, rtol=1e-5, atol=1e-6)
    assert ((x + step) >= -1e-6).all()
    assert ((x + step) <= 1 + 1e-6).all()
    lengths = torch.linalg.vector_norm(step, ord=float(norm[1:]), dim=1)
    expected = [
        solved(*row, norm) for row in zip(x.double().numpy(), normal.double().numpy(), amount.tolist(), strict=True)
    ]
    assert lengths.tolist() == pytest.approx(expected, rel=1e-4)


@every_norm
def test_a_plane_beyond_the_box_is_approached_as_far_as_the_box_goes(norm):
    x, normal, amount = problems()
    step = step_to_plane(x, normal, 1e3 * amount.sign(), norm)
    corner = torch.where(normal * amount[:, None] > 0, 1.0, 0.0)
    torch.testing.assert_close(x + step, torch.where(normal == 0, x, corner))


@every_norm
def test_no_amount_or_no_slope_means_no_step(norm):
    x, normal, amount = problems()
    assert not step_to_plane(x, normal, 0 * amount, norm).any()
    assert not step_to_plane(x, 0 * normal, amount, norm).any()


@every_norm
def test_the_scale_of_the_plane_does_not_matter(norm):
    x, normal, amount = problems()
    tiny = step_to_plane(x, normal * 1e-30, amount * 1e-30, norm)
    torch.testing.assert_close(tiny, step_to_plane(x, normal, amount, norm), rtol=1e-4, atol=1e-5)


@every_norm
def test_a_gradient_that_is_not_a_number_ends_and_touches_no_other_image(norm):
    x, normal = torch.rand(3, 8), torch.randn(3, 8)
    amount = torch.full((3,), 0.1)
    whole = step_to_plane(x, normal, amount, norm)
    normal[1, 2] = torch.nan
    assert torch.equal(step_to_plane(x, normal, amount, norm)[[0, 2]], whole[[0, 2]])


def to_each_boundary(model: nn.Sequential, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """[N, K] shortest way inside the box to each boundary of a linear model, infinite for the label itself."""
    lead, slope = planes(model, x, y)
    start = x.flatten(1).double()[:, None].expand_as(slope).flatten(0, 1)
    steps = step_to_plane(start, slope.flatten(0, 1), lead.flatten(), norm)
    lengths = torch.linalg.vector_norm(steps, ord=float(norm[1:]), dim=1).view(lead.shape)
    reached = (start + steps).mul(slope.flatten(0, 1)).sum(dim=1).view(lead.shape)
    beyond = reached < (start * slope.flatten(0, 1)).sum(dim=1).view(lead.shape) + lead * (1 - 1e-6)
    return lengths.masked_fill(beyond | lead.isinf(), torch.inf)


@every_norm
@pytest.mark.parametrize("targets", [0, 4])
def test_finds_the_minimal_perturbation_of_a_linear_model(norm, targets):
    model, x, y = linear_problem()
    result = FAB(steps=15, norm=norm, targets=targets).run(model, x, y)
    assert result.success.all()
    found, least = distance(x, result.images, norm), to_each_boundary(model, x, y, norm).amin(dim=1)
    # The untargeted attack chooses the nearest class as if there were no box, which a single pixel under L1 meets.
    torch.testing.assert_close(found, least, rtol=1e-2 if norm == "L1" and not targets else 1e-3, atol=0)
    assert (found >= least * (1 - 1e-5)).all()
    if norm != "L1":
        torch.testing.assert_close(least, minimal_distance(model, x, y, norm))


@every_norm
def test_finds_it_at_the_edge_of_the_box_too(norm):
    model, x, _ = linear_problem()
    x = (5 * x - 2).clamp(0, 1)
    y = predicted(model, x)
    least = to_each_boundary(model, x, y, norm).amin(dim=1)
    result = FAB(steps=30, norm=norm, targets=4).run(model, x, y)
    torch.testing.assert_close(distance(x, result.images, norm), least, rtol=2e-3, atol=0)


@every_norm
def test_with_one_target_it_is_the_runner_up_that_is_aimed_at(norm):
    model, x, y = linear_problem(12, classes=8)
    runner_up = planes(model, x, y)[0].argmin(dim=1, keepdim=True)
    aimed_at = to_each_boundary(model, x, y, norm).gather(1, runner_up).squeeze(1)
    found = distance(x, FAB(steps=15, norm=norm, targets=1).run(model, x, y).images, norm)
    torch.testing.assert_close(found, aimed_at, rtol=1e-3, atol=0)


@every_norm
def test_reaches_the_explicit_target(norm):
    model, x, y = tilted_problem(6)
    target = (y + 1) % 3
    result = FAB(steps=30, norm=norm).run(model, x, y, target=target)
    assert result.success.all()
    assert torch.equal(predicted(model, result.images), target)
    nearest = FAB(steps=30, norm=norm).run(model, x, y).images
    assert (distance(x, result.images, norm) >= 0.98 * distance(x, nearest, norm)).all()
    assert distance(x, result.images, norm).min() > 0


@every_norm
def test_restarts_go_elsewhere_by_the_seed_and_find_nearer_images_of_digits(digits, norm):
    """How much nearer depends on the network: where the first start found the nearest boundary, by little."""
    model, x, y = digits
    x, y = x[:40], y[:40]
    once = distance(x, FAB(steps=10, norm=norm).run(model, x, y).images, norm)
    restarted = [FAB(steps=10, norm=norm, restarts=3, seed=seed).run(model, x, y).images for seed in (0, 1)]
    for images in restarted:
        assert (distance(x, images, norm) <= once).all()
        assert (distance(x, images, norm) < once).float().mean() > 0.25
    assert not torch.equal(*restarted)


@every_norm
def test_a_restart_begins_at_half_the_distance_found(norm):
    model, x, y = linear_problem(4, classes=2)
    seen: list[Tensor] = []

    def forward(images: Tensor) -> Tensor:
        if images.requires_grad:
            seen.append(distance(x, images.detach(), norm))
        return model(images.double())

    FAB(steps=15, norm=norm, restarts=2).run(forward, x, y)
    least = to_each_boundary(model, x, y, norm).amin(dim=1)
    torch.testing.assert_close(seen[15], least / 2, rtol=1e-3, atol=0)
    assert seen[0].max() == 0


@every_norm
@pytest.mark.parametrize("targets", [0, 2])
def test_samples_within_the_budget_leave_the_batch(norm, targets):
    model, x, y = tilted_problem(8)
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    success = FAB(EPS[norm], steps=30, norm=norm, targets=targets).run(model, x, y).success
    assert 0 < success.sum() < len(x)
    assert min(sizes) == (~success).sum()


def test_nan_logits_do_not_carry_the_images_out_of_the_box():
    model, x, y = tilted_problem(4)

    def broken(images: Tensor) -> Tensor:
        return model(images.double()) * torch.where(images.flatten(1)[:, :1] > 0.5, torch.nan, 1.0)

    images = FAB(steps=5).run(broken, x, y, target=(y + 1) % 3).images
    assert images.isfinite().all()
    assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"norm": "L0"}, "norm must be one of"),
        ({"targets": -1}, "targets must not be negative"),
        ({"alpha_max": 1.5}, "must lie in"),
        ({"beta": -0.1}, "must lie in"),
        ({"eta": 0.9}, "eta must be at least 1"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"eps": 8}, "did you mean 8/255"),
    ],
)
def test_refuses_what_cannot_be_meant(arguments, message):
    with pytest.raises(InputError, match=message):
        FAB(**arguments)


@pytest.mark.parametrize(("norm", "far"), [("Linf", 1.0), ("L2", 30.0)])
def test_the_median_on_digits_is_that_of_torchattacks(digits, norm, far):
    torchattacks, (model, x, y) = imported("torchattacks"), digits
    x, y = x[:60], y[:60]
    theirs = torchattacks.FAB(model, norm=norm, eps=far, steps=15, n_classes=10)(x, y)
    ours = FAB(steps=15, norm=norm).run(model, x, y)
    assert ours.success.sum() >= (predicted(model, theirs) != y).sum()
    assert distance(x, ours.images, norm).median() <= 1.01 * distance(x, theirs, norm).median()
    assert distance(x, ours.images, norm).mean() <= 1.01 * distance(x, theirs, norm).mean()
