"""Square: what a random search may ask of the model, and how near it comes to the best."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import perturbation_norms
from lightning_adv.attacks.square import Square
from lightning_adv.errors import InputError

from .problems import (
    EPS,
    binary_linear_problem,
    corner_images,
    dual_norm,
    images,
    tilted_problem,
    weight_difference,
)

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
ROUNDING = 1e-5


class Sure(nn.Module):
    """Always class 0, by a margin that the brightness of the pixels changes; keeps the images it is asked about."""

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.slope, self.asked = slope, []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.clone())
        doubt = self.slope * x.flatten(1).mean(dim=1)
        return torch.stack([torch.full_like(doubt, 10.0), doubt, doubt - 1], dim=1)


@every_norm
@pytest.mark.parametrize("make", [images, corner_images])
def test_every_image_it_asks_about_lies_in_the_ball_and_in_the_box(norm, make):
    model, x = Sure(), make()
    Square(eps=EPS[norm], queries=150, norm=norm).run(model, x, torch.zeros(len(x), dtype=torch.int64))
    assert len(model.asked) == 150
    for asked in model.asked:
        assert 0 <= asked.min() <= asked.max() <= 1
        assert perturbation_norms(x.double(), asked.double())[norm].max() <= EPS[norm] + ROUNDING


@every_norm
@pytest.mark.parametrize(("queries", "restarts"), [(1, 1), (3, 1), (70, 1), (20, 3)])
def test_a_robust_sample_costs_exactly_its_queries(norm, queries, restarts):
    model, x = Sure(), images()
    attack = Square(eps=EPS[norm], queries=queries, norm=norm, restarts=restarts)
    assert not attack.run(model, x, torch.zeros(6, dtype=torch.int64)).success.any()
    assert [len(asked) for asked in model.asked] == [6] * queries * restarts


@every_norm
def test_no_sample_costs_more_than_its_queries_and_fallen_ones_cost_less(norm):
    model, x, y = tilted_problem()
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    success = Square(eps=2 * EPS[norm], queries=60, norm=norm).run(model, x, y).success
    assert 0 < success.sum() < len(x)
    assert len(sizes) == 60
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == (~success).sum()


def test_samples_that_are_wrong_from_the_outset_cost_one_query():
    model, x = Sure(), images()
    assert Square(queries=100).run(model, x, torch.ones(6, dtype=torch.int64)).success.all()
    assert len(model.asked) == 1


@every_norm
def test_a_sample_stops_at_its_first_success(norm):
    model, x, y = tilted_problem()
    short, long = (Square(eps=2 * EPS[norm], queries=queries, norm=norm).run(model, x, y) for queries in (45, 90))
    assert short.success.any()
    assert torch.equal(short.images[short.success], long.images[short.success])
    assert (long.success >= short.success).all()


@every_norm
def test_the_margin_never_falls_as_queries_are_added(norm):
    model, x, y = tilted_problem()
    budgets = (1, 20, 70, 200)
    margins = []
    for queries in budgets:
        logits = Square(eps=EPS[norm], queries=queries, norm=norm).run(model, x, y).logits
        others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        margins.append((others - logits.gather(1, y[:, None]).squeeze(1)).clamp(max=0))
    for fewer, more in pairwise(margins):
        assert (more >= fewer - 1e-6).all()
    assert (margins[-1] > margins[0]).any()


@pytest.mark.parametrize(("norm", "share", "queries"), [("Linf", 0.999, 1500), ("L2", 0.5, 1500), ("L1", 0.6, 500)])
def test_on_a_linear_model_many_queries_come_near_the_dual_norm(norm, share, queries):
    """Linf ends with single pixels and finds the maximum; the patterns of L2 and L1 cannot follow random weights."""
    model, x, y = binary_linear_problem(margin=5.0, count=2)
    x = x.clamp(0, 1)
    with torch.no_grad():
        y = model(x.double()).argmax(dim=1)
        before = model(x.double())
    eps = {"Linf": 0.01, "L2": 0.05, "L1": 0.1}[norm]
    result = Square(eps=eps, queries=queries, norm=norm).run(model, x, y)
    assert not result.success.any()  # the search used all its queries
    gain = ((before - result.logits) * torch.tensor([1.0, -1.0])).sum(dim=1) * (1 - 2 * y)
    best = eps * dual_norm(weight_difference(model), norm)
    assert (gain >= share * best).all()
    assert (gain <= best * (1 + 1e-3)).all()


@every_norm
def test_far_from_the_box_the_whole_budget_is_spent(norm):
    model, x = Sure(), torch.full((4, 2, 7, 7), 0.5)
    Square(eps=EPS[norm], queries=30, norm=norm).run(model, x, torch.zeros(4, dtype=torch.int64))
    for asked in model.asked:
        spent = perturbation_norms(x, asked)[norm]
        torch.testing.assert_close(spent, torch.full_like(spent, EPS[norm]), rtol=1e-4, atol=0)


def windows(attack: Square, side: int = 28) -> Tensor:
    """[Q - 1, N, 4] first and last row and column that each query changes, where none is ever better."""
    model, x = Sure(slope=0.0), torch.full((64, 1, side, side), 0.5)
    attack.run(model, x, torch.zeros(64, dtype=torch.int64))
    changed = (torch.stack(model.asked[1:]) != model.asked[0])[:, :, 0]
    rows, columns = changed.any(dim=3).float(), changed.any(dim=2).float()
    ends = [rows.argmax(2), side - 1 - rows.flip(2).argmax(2), columns.argmax(2), side - 1 - columns.flip(2).argmax(2)]
    return torch.stack(ends, dim=2)


def sides(attack: Square) -> list[int]:
    """Height of the highest window of each query; Linf stripes differ from a window in whole columns."""
    found = windows(attack)
    return (found[..., 1] - found[..., 0] + 1).where(found[..., 3] < 27, 0).amax(dim=1).tolist()


def test_windows_shrink_by_the_schedule_of_the_paper():
    height = sides(Square(queries=220))
    expected = [25] * 11 + [18] * 40 + [13] * 150 + [9] * 18
    assert height == expected  # sqrt(0.8 * 784), then p / 2, p / 4 and p / 8


def test_a_rescaled_schedule_is_run_through_within_the_queries():
    height = sides(Square(queries=50, rescale_schedule=True))
    assert height[:2] == [25, 13]  # 0 and 200 of 10,000
    assert height[-1] == 1


def test_windows_reach_every_pixel_and_differ_from_sample_to_sample():
    found = windows(Square(queries=100))
    assert found[..., [0, 2]].amin(dim=(0, 1)).tolist() == [0, 0]
    assert found[..., 1].max() == 27
    assert found[..., 3].max() == 27
    assert (found[60:].float().std(dim=1) > 0).all()


@every_norm
def test_the_seed_decides_what_is_tried(norm):
    model, x, y = tilted_problem()
    first, again, other = (Square(EPS[norm], queries=30, norm=norm, seed=seed)(model, x, y) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_target_is_reached_and_not_just_an_error():
    model, x, y = tilted_problem()
    target = (y + 1) % 3
    result = Square(eps=0.3, queries=200).run(model, x, y, target=target)
    assert torch.equal(result.success, result.logits.argmax(dim=1) == target)
    assert result.success.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": 0}, "queries must be at least 1, got 0"),
        ({"p_init": 0.0}, r"p_init .* \(0, 1\], got 0.0"),
        ({"p_init": 1.5}, "got 1.5"),
        ({"norm": "L3"}, "norm must be one of Linf, L2, L1, got 'L3'"),
        ({"eps": 8}, "did you mean 8/255"),
        ({"restarts": 0}, "restarts must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Square(**arguments)
