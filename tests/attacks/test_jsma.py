"""JSMA finds the best pair that exhaustive search finds, keeps its count of pixels, and is torchattacks' on digits."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import JSMA, jsma
from lightning_adv.attacks.jsma import best_pair
from lightning_adv.errors import InputError

from .minimal_norm import (
    changed,
    linear_problem,
    predicted,
)
from .problems import tilted_problem
from .test_parity import imported

CLOUDS = {
    "independent": lambda a, b: (a, b),
    "correlated": lambda a, b: (a, a + 0.3 * b),
    "opposed": lambda a, b: (a, -a + 0.3 * b),
    "one staircase": lambda a, b: (a, -a + 3),
    "duplicates": lambda a, b: ((2 * a).round(), (2 * b).round()),
    "mostly nothing": lambda a, b: (a * (a > 1.5), b * (a > 1.5)),
    "hardly any pair": lambda a, b: (a - 1.5, b - 1.5),
    "tiny": lambda a, b: (a * 1e-30, b * 1e-30),
}


def cloud(kind: str, count: int = 7, size: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b, free = (torch.randn(count, size, generator=generator) for _ in range(3))
    return *CLOUDS[kind](a, b), free > -1


def values(toward: Tensor, away: Tensor, open_: Tensor) -> Tensor:
    """[N, D, D] the saliency of every pair, minus infinity where there is none."""
    toward, away = toward.double(), away.double()
    first, second = toward[:, :, None] + toward[:, None], away[:, :, None] + away[:, None]
    allowed = (first > 0) & (second > 0) & open_[:, :, None] & open_[:, None]
    allowed &= ~torch.eye(toward.shape[1], dtype=torch.bool)
    return torch.where(allowed, first * second, -torch.inf)


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("at_once", [2**24, 50])
def test_the_pair_is_the_best_of_all_pairs(monkeypatch, kind, at_once):
    monkeypatch.setattr(jsma, "PAIRS_AT_ONCE", at_once)
    toward, away, open_ = cloud(kind)
    pair, exists = best_pair(toward, away, open_)
    every = values(toward, away, open_)
    best = every.flatten(1).amax(dim=1)
    assert torch.equal(exists, best > -torch.inf)
    assert exists.any()
    rows = exists.nonzero().flatten()
    found = every[rows, pair[rows, 0], pair[rows, 1]]
    torch.testing.assert_close(found, best[rows], rtol=1e-5, atol=0)


def test_without_an_allowed_pair_there_is_none():
    toward, away, open_ = cloud("independent")
    for nothing in (best_pair(-toward.abs(), away, open_), best_pair(toward, away, open_ & False)):
        assert not nothing[1].any()


def test_the_best_of_eleven_billion_pairs_of_a_large_image_needs_few_of_them():
    generator = torch.Generator().manual_seed(0)
    size = 3 * 224 * 224
    toward, noise = torch.randn(1, size, generator=generator), torch.randn(1, size, generator=generator)
    away = -0.5 * toward + noise
    open_ = torch.ones_like(toward, dtype=torch.bool)
    assert jsma._outermost(toward, away, open_).shape[1] < 500
    pair, exists = best_pair(toward, away, open_)
    assert exists.all()
    best = toward.gather(1, pair).sum(dim=1) * away.gather(1, pair).sum(dim=1)
    # Any pixel with any of those that are most promising in one term, or in both together.
    for rivals in (toward.topk(60).indices, away.topk(60).indices, (toward + away).topk(60).indices):
        first, second = toward.T + toward[0, rivals], away.T + away[0, rivals]  # [D, 60]
        product = torch.where((first > 0) & (second > 0), first * second, -torch.inf)
        product[rivals[0], torch.arange(60)] = -torch.inf  # no pair with itself
        assert product.max() <= best.item() * (1 + 1e-5)


@pytest.mark.parametrize("theta", [1.0, -1.0])
@pytest.mark.parametrize("pixels", [1, 2])
def test_the_first_step_changes_the_most_salient_pixels_of_a_linear_model(theta, pixels):
    model, x, y = linear_problem()
    target = (y + 1) % 5
    weight = model[1].weight.detach() * theta
    toward, away = weight[target], weight[target] - weight.sum(dim=0)
    every = values(toward, away, torch.ones_like(toward, dtype=torch.bool))
    if pixels == 1:
        best = torch.where((toward > 0) & (away > 0), toward * away, -torch.inf).argmax(dim=1, keepdim=True)
    else:
        best = torch.stack(torch.unravel_index(every.flatten(1).argmax(dim=1), every.shape[1:]), dim=1)
    seen: list[Tensor] = []

    def forward(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images.double())

    JSMA(theta=theta, gamma=pixels / 72, pixels=pixels).run(forward, x, y, target=target)
    expected = x.flatten(1).scatter(1, best, max(theta, 0.0))
    torch.testing.assert_close(seen[-1].flatten(1), expected, rtol=0, atol=0)


@pytest.mark.parametrize("theta", [1.0, -1.0, 0.3])
@pytest.mark.parametrize("pixels", [1, 2])
def test_reaches_the_target_within_its_share_of_pixels_all_moved_one_way(theta, pixels):
    model, x, y = tilted_problem(8)
    target = (y + 1) % 3
    result = JSMA(theta=theta, gamma=0.25, pixels=pixels).run(model, x, y, target=target)
    assert result.success.any()
    assert torch.equal(result.success, predicted(model, result.images) == target)
    assert changed(x, result.images).max() <= 72 * 0.25
    assert ((result.images - x) * theta >= 0).all()
    assert 0 <= result.images.min() <= result.images.max() <= 1


def test_a_larger_share_of_pixels_fools_no_fewer():
    model, x, y = tilted_problem()
    fooled = [int(JSMA(gamma=gamma).run(model, x, y).success.sum()) for gamma in (0.05, 0.2, 1.0)]
    assert fooled == sorted(fooled)
    assert fooled[0] < fooled[-1]


def test_stops_at_the_first_success():
    model, x, y = tilted_problem()
    result = JSMA(gamma=1.0).run(model, x, y)
    fewer = JSMA(gamma=1.0)
    for row in result.success.nonzero().flatten().tolist():
        needed = int(changed(x, result.images)[row])
        fewer.gamma = (needed - 1) / 72
        assert not fewer.run(model, x[row : row + 1], y[row : row + 1]).success.any()


def test_saturated_pixels_are_left_alone():
    model, x, _ = linear_problem()
    x = torch.where(torch.arange(72).view(1, 2, 6, 6) % 2 == 0, 0.995, x)
    result = JSMA(gamma=1.0).run(model, x, predicted(model, x))
    assert torch.equal(result.images[x == torch.tensor(0.995)], x[x == torch.tensor(0.995)])


def test_small_steps_go_on_with_pixels_already_changed_when_no_more_may_change():
    model, x, y = linear_problem()
    result = JSMA(theta=0.1, gamma=2 / 72).run(model, x, y, target=(y + 1) % 5)
    moved = (result.images - x).amax(dim=(1, 2, 3))
    assert (moved[~result.success] > 0.25).all()
    assert changed(x, result.images).max() <= 2


def test_without_a_target_any_wrong_answer_ends_it():
    model, x, y = tilted_problem()
    result = JSMA(gamma=0.5).run(model, x, y)
    assert result.success.any()
    assert torch.equal(result.success, predicted(model, result.images) != y)


def test_fooled_and_stuck_samples_leave_the_batch():
    model, x, y = tilted_problem()
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    JSMA(gamma=1.0).run(model, x, y)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < len(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"theta": 0.0}, "theta must lie in"),
        ({"theta": 1.5}, "theta must lie in"),
        ({"gamma": 0.0}, "gamma is a share"),
        ({"gamma": 2.0}, "gamma is a share"),
        ({"pixels": 3}, "pixels must be 1 or 2"),
    ],
)
def test_refuses_what_cannot_be_meant(arguments, message):
    with pytest.raises(InputError, match=message):
        JSMA(**arguments)


def test_changes_as_many_digits_pixels_as_torchattacks(digits):
    torchattacks, (model, x, y) = imported("torchattacks"), digits
    x, y = x[:16], y[:16]
    target = (y + 1) % 10  # what torchattacks aims at
    theirs = torchattacks.JSMA(nn.Sequential(model).eval(), theta=1.0, gamma=80 / 784)(x, y)
    ours = JSMA(theta=1.0, gamma=80 / 784).run(model, x, y, target=target)
    reached = predicted(model, theirs) == target
    assert ours.success.sum() >= reached.sum()
    both = ours.success & reached
    assert both.sum() > 8
    assert changed(x, ours.images)[both].sum() <= 1.05 * changed(x, theirs)[both].sum()
