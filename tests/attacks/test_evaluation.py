"""``attack.run``: targets, restarts, the best image of all, and the signs of masked gradients."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.attacks import FGSM, PGD, AttackResult, Goal

from .problems import Constant, images, smooth_cnn, tilted_problem


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model(x.double()).argmax(dim=1) == y).double().mean().item()


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_reaches_the_target_where_the_budget_allows_it(norm):
    model, x, y = tilted_problem()
    target = (y + 1) % 3
    attack = PGD(eps={"Linf": 0.3, "L2": 2.0, "L1": 15.0}[norm], steps=40, norm=norm)
    result = attack.run(model, x, y, target=target)
    assert result.success.all()
    assert torch.equal(result.logits.argmax(dim=1), target)
    assert accuracy(model, attack(model, x, y, target=target), target) == 1


def test_leaving_the_label_for_a_third_class_is_no_targeted_success():
    model, x, y = tilted_problem()
    result = PGD(eps=0.03, steps=20).run(model, x, y, target=(y + 1) % 3)
    assert torch.equal(result.success, result.logits.argmax(dim=1) == (y + 1) % 3)
    assert not result.success.all()


def ridges(x: Tensor) -> Tensor:
    """Two logits whose difference waves along each pixel, so that the start decides which ridge is climbed."""
    wave = torch.cos(60 * (x.flatten(1) - 0.5)).mean(dim=1) + 2 * (x.flatten(1) - 0.5).mean(dim=1)
    return torch.stack([torch.full_like(wave, 1.06), wave], dim=1)


def ridged_run(restarts: int) -> AttackResult:
    x = torch.full((40, 1, 2, 2), 0.45)
    attack = PGD(eps=0.2, step_size=0.005, steps=20, restarts=restarts)
    return attack.run(ridges, x, torch.zeros(40, dtype=torch.int64))


def test_more_restarts_never_find_fewer_and_here_find_more():
    found = [ridged_run(restarts).success for restarts in (1, 2, 4, 8)]
    for fewer, more in pairwise(found):
        assert (more >= fewer).all()
    assert found[0].sum() < found[-1].sum()


def test_the_restart_of_a_success_is_the_first_that_found_it():
    many = ridged_run(6)
    for restarts in range(1, 7):
        found = ridged_run(restarts).success
        assert torch.equal(found, (many.restart >= 0) & (many.restart < restarts))
    assert many.restart.max() > 0


def test_a_quantised_input_is_flagged_as_a_zero_gradient():
    model, x, y = tilted_problem()
    result = PGD(eps=0.03, steps=3).run(lambda images: model((images * 8).round().double() / 8), x, y)
    assert result.zero_gradient.all()


def test_a_zero_gradient_is_flagged_for_its_sample_alone():
    model, x, y = tilted_problem()
    blind = torch.arange(len(x)) % 2 == 0

    def half_blind(images: Tensor) -> Tensor:
        kept = torch.where(blind[:, None, None, None], images.detach(), images)
        return model(kept.double())

    assert torch.equal(FGSM(eps=1e-4).run(half_blind, x, y).zero_gradient, blind)


def test_nan_logits_predict_no_class_whatever_the_label():
    x, y = images(), torch.tensor([0, 1, 2, 0, 1, 2])

    def broken(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * torch.nan

    assert PGD(steps=2).run(broken, x, y).success.all()
    targeted = PGD(steps=2).run(broken, x, y, target=(y + 1) % 3)
    assert targeted.success.all(), "a model that the attacker breaks is not robust"
    assert not targeted.zero_gradient.any(), "there was no gradient that could have been zero"


def test_nan_logits_do_not_replace_a_finding_or_reach_the_batch_mates():
    model, x, y = tilted_problem()
    torch.testing.assert_close(
        FGSM(eps=0.03).run(breaks_for_the_first(model), x, y).images[1:],
        FGSM(eps=0.03).run(model, x, y).images[1:],
    )
    clean = FGSM(eps=0.03).run(breaks_for_the_first(model, after=1), x, (y + 1) % 3)
    assert torch.equal(clean.images[0], x[0])  # its success at the clean image stands
    assert clean.logits.isfinite().all()


def breaks_for_the_first(model: nn.Module, after: int = 0):
    """The model, whose logits for the first sample are NaN once it was called ``after`` times."""
    calls = []

    def broken(images: Tensor) -> Tensor:
        calls.append(1)
        logits = model(images.double())
        lost = (torch.arange(len(images)) == 0) & (len(calls) > after)
        return torch.where(lost[:, None], torch.nan, logits)

    return broken


def test_a_float16_backward_pass_does_not_flush_small_gradients_to_zero():
    """The gradient of a confident prediction, times small weights, lies below what float16 can hold."""
    x, y = images(), torch.zeros(6, dtype=torch.int64)
    weight = 1e-3 * torch.randn(3, 72, generator=torch.Generator().manual_seed(0))

    def confident(images: Tensor) -> Tensor:
        return F.linear(images.flatten(1), weight) + torch.tensor([9.0, 0.0, 0.0])

    exact = Goal(confident, x, y).gradient(x)
    with torch.autocast("cpu", dtype=torch.float16):
        half = Goal(confident, x, y).gradient(x)
    assert half.dtype == torch.float32
    assert exact.abs().max() < 2**-20  # the smallest number of float16 is 2**-24
    torch.testing.assert_close(half, exact, rtol=2e-3, atol=2e-3 * exact.abs().max().item())


def test_the_gradient_is_that_of_the_cross_entropy_of_each_sample():
    model, x = smooth_cnn(), images()
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    moved = x.double().requires_grad_(True)
    (expected,) = torch.autograd.grad(F.cross_entropy(model(moved), y, reduction="sum"), moved)
    torch.testing.assert_close(Goal(model, x, y).gradient(x), expected.float(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(Goal(model, x, y, target=y).gradient(x), -expected.float(), rtol=1e-4, atol=1e-7)


def test_an_attack_that_never_asks_for_a_gradient_is_judged_too():
    model, x, y = tilted_problem()
    result = Constant(torch.full_like(x, 0.5)).run(model, x, y)
    assert torch.equal(result.success, result.logits.argmax(dim=1) != y)
    assert torch.equal(result.images, torch.full_like(x, 0.5))
