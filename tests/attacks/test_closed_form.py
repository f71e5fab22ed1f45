"""On a linear model the best perturbation is known: the attacks must find it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import BIM, FGSM, PGD

from .problems import binary_linear_problem, dual_norm, weight_difference

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
EPS = {"Linf": 0.05, "L2": 0.2, "L1": 0.3}


def margin(model, x: Tensor, y: Tensor) -> Tensor:
    """[N] logit of the label minus that of the other class."""
    with torch.no_grad():
        logits = model(x.double())
    return (logits[:, 0] - logits[:, 1]) * (1 - 2 * y)


def gain(model, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    return margin(model, x, y) - margin(model, x_adv, y)


@every_norm
@pytest.mark.parametrize("start", ["uniform", "clean", "gaussian"])
def test_pgd_takes_eps_times_the_dual_norm_from_the_margin(norm, start):
    model, x, y = binary_linear_problem()
    best = EPS[norm] * dual_norm(weight_difference(model), norm)
    x_adv = PGD(eps=EPS[norm], step_size=EPS[norm] / 2, steps=60, norm=norm, start=start)(model, x, y)
    assert gain(model, x, x_adv, y).tolist() == pytest.approx([best] * len(x), rel=1e-3)


@every_norm
def test_fgsm_takes_it_in_one_step(norm):
    model, x, y = binary_linear_problem()
    best = EPS[norm] * dual_norm(weight_difference(model), norm)
    x_adv = FGSM(eps=EPS[norm], norm=norm)(model, x, y)
    assert gain(model, x, x_adv, y).tolist() == pytest.approx([best] * len(x), rel=1e-4)


@every_norm
def test_the_evaluated_image_has_the_highest_loss_there_is(norm):
    model, x, y = binary_linear_problem()
    result = PGD(eps=EPS[norm], step_size=EPS[norm] / 2, steps=60, norm=norm).run(model, x, y)
    lowest = margin(model, x, y) - EPS[norm] * dual_norm(weight_difference(model), norm)
    failed = ~result.success  # a success is dropped as soon as it is known, wherever it stands by then
    loss = F.cross_entropy(result.logits, y, reduction="none")
    assert loss[failed].tolist() == pytest.approx(F.softplus(-lowest)[failed].tolist(), rel=1e-3)


@every_norm
@pytest.mark.parametrize(("reach", "falls"), [(0.95, False), (1.05, True)])
def test_succeeds_exactly_where_the_budget_exceeds_the_minimal_distance(norm, reach, falls):
    model, x, y = binary_linear_problem(margin=0.3)
    minimal = 0.3 / dual_norm(weight_difference(model), norm)
    result = PGD(eps=reach * minimal, steps=60, norm=norm).run(model, x, y)
    assert result.success.tolist() == [falls] * len(x)
    assert torch.equal(result.success, result.logits.argmax(dim=1) != y)


@every_norm
def test_the_best_targeted_step_is_the_same_for_two_classes(norm):
    model, x, y = binary_linear_problem()
    attack = PGD(eps=EPS[norm], step_size=EPS[norm] / 2, steps=60, norm=norm)
    torch.testing.assert_close(attack(model, x, y, target=1 - y), attack(model, x, y), rtol=0, atol=1e-4)


def edge_problem():
    """The linear problem with many pixels at or near the ends of the box."""
    model, x, y = binary_linear_problem()
    generator = torch.Generator().manual_seed(5)
    x = (torch.rand(x.shape, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    return model, x, margin(model, x, torch.zeros_like(y)).lt(0).long()


def room(model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """[D] value of a unit step of each pixel and [N, D] how far the box lets it go the harmful way."""
    slope = weight_difference(model) * (1 - 2 * y)[:, None]  # [N, D], raises the other class
    return slope.abs(), torch.where(slope > 0, 1 - x.flatten(1).double(), x.flatten(1).double())


@pytest.mark.parametrize("attack", [PGD(eps=0.1, steps=40), BIM(eps=0.1, steps=40), FGSM(eps=0.1)])
def test_at_the_edge_of_the_box_linf_moves_every_pixel_as_far_as_it_can(attack):
    model, x, y = edge_problem()
    value, reach = room(model, x, y)
    best = (value * reach.clamp(max=0.1)).sum(dim=1)
    torch.testing.assert_close(gain(model, x, attack(model, x, y), y), best, rtol=1e-4, atol=0)


def test_at_the_edge_of_the_box_l1_spends_its_budget_on_the_most_valuable_pixels_with_room():
    model, x, y = edge_problem()
    value, reach = room(model, x, y)
    order = value.argsort(dim=1, descending=True)  # the fractional knapsack: best value first
    value, reach = value.gather(1, order), reach.gather(1, order)
    before = reach.cumsum(dim=1) - reach
    best = (value * torch.minimum(reach, (2.0 - before).clamp(min=0))).sum(dim=1)
    x_adv = PGD(eps=2.0, steps=200, step_size=0.2, norm="L1", start="clean")(model, x, y)
    torch.testing.assert_close(gain(model, x, x_adv, y), best, rtol=1e-3, atol=0)


@every_norm
def test_a_gradient_too_small_to_square_still_gives_the_full_step(norm):
    model, x, y = binary_linear_problem()
    best = EPS[norm] * dual_norm(weight_difference(model), norm)

    def faint(images: Tensor) -> Tensor:
        return model(images.double()) * 1e-30

    x_adv = FGSM(eps=EPS[norm], norm=norm)(faint, x, y)
    assert gain(model, x, x_adv, y).tolist() == pytest.approx([best] * len(x), rel=1e-4)
