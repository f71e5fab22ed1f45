"""Carlini and Wagner's attacks: the closed forms of a linear model, the peers' norms on digits, and the laws."""

import pytest
import torch
from torch import Tensor

from lightning_adv.attacks import JSMA, CarliniWagner
from lightning_adv.errors import InputError

from .minimal_norm import (
    changed,
    distance,
    linear_problem,
    minimal_distance,
    planes,
    predicted,
)
from .problems import tilted_problem
from .test_parity import imported

QUICK = {"steps": 60, "lr": 0.02, "initial_const": 0.1}
SEARCHES = {
    "L2": CarliniWagner(**QUICK, binary_search_steps=5),
    "Linf": CarliniWagner(**QUICK, norm="Linf"),
    "L0": CarliniWagner(**QUICK, norm="L0"),
}
every_norm = pytest.mark.parametrize("norm", SEARCHES)


def margin(model, x: Tensor, y: Tensor) -> Tensor:
    """[N] best other logit minus the label's."""
    with torch.no_grad():
        logits = model(x.to(next(model.parameters()).dtype))
    return logits.scatter(1, y[:, None], -torch.inf).amax(dim=1) - logits.gather(1, y[:, None]).squeeze(1)


def test_l2_is_the_distance_to_the_nearest_linear_boundary():
    model, x, y = linear_problem()
    result = CarliniWagner(steps=150, lr=0.005, initial_const=0.1).run(model, x, y)
    assert result.success.all()
    found, least = distance(x, result.images, "L2"), minimal_distance(model, x, y, "L2")
    torch.testing.assert_close(found, least, rtol=0.01, atol=0)
    assert (found >= least * (1 - 1e-5)).all()


def test_linf_is_the_distance_to_the_nearest_linear_boundary_but_for_one_lowering_of_tau():
    model, x, y = linear_problem()
    result = CarliniWagner(steps=100, lr=0.002, norm="Linf").run(model, x, y)
    assert result.success.all()
    found, least = distance(x, result.images, "Linf"), minimal_distance(model, x, y, "Linf")
    assert (found >= least * (1 - 1e-5)).all()
    assert (found <= least / 0.9 * 1.02).all()


def test_l0_is_within_one_pixel_of_the_fewest_that_can_cross_a_linear_boundary():
    model, x, y = linear_problem()
    lead, slope = planes(model, x, y)
    here = x.flatten(1)[:, None]
    gains = (slope.abs() * torch.where(slope > 0, 1 - here, here)).sort(dim=2, descending=True).values
    fewest = (gains.cumsum(dim=2) < lead[:, :, None]).sum(dim=2).add(1).amin(dim=1)
    result = CarliniWagner(steps=200, lr=0.05, initial_const=1.0, norm="L0").run(model, x, y)
    assert result.success.all()
    assert (changed(x, result.images) >= fewest).all()
    assert (changed(x, result.images) <= fewest + 1).all()


@every_norm
def test_reaches_the_explicit_target(norm):
    model, x, y = tilted_problem(6)
    target = (y + 1) % 3
    result = SEARCHES[norm].run(model, x, y, target=target)
    assert result.success.sum() >= 4
    assert torch.equal(result.success, predicted(model, result.images) == target)


@every_norm
def test_confidence_is_the_margin_of_every_success_and_costs_distance(norm):
    model, x, y = linear_problem()
    sure = CarliniWagner(**QUICK, norm=norm, confidence=2.0).run(model, x, y)
    barely = CarliniWagner(**QUICK, norm=norm).run(model, x, y)
    assert sure.success.all()
    assert margin(model, sure.images, y).min() >= 2.0
    assert margin(model, barely.images, y).min() > 0
    measure = changed if norm == "L0" else lambda x, images: distance(x, images, norm)
    assert measure(x, sure.images).double().mean() > measure(x, barely.images).double().mean()


def test_a_confidence_out_of_reach_is_no_success():
    model, x, y = linear_problem()
    result = CarliniWagner(**QUICK, binary_search_steps=2, confidence=1e6).run(model, x, y)
    assert not result.success.any()
    assert torch.equal(result.images, x)


def test_descents_take_the_steps_of_one_adam_that_remembers_ten_turns_when_the_constant_changes():
    model, x, y = tilted_problem(4)
    seen: list[Tensor] = []

    def forward(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images.double())

    CarliniWagner(steps=12, binary_search_steps=2, initial_const=5.0, abort_early=False).run(forward, x, y)
    w = torch.atanh((2 * x - 1) * (1 - 1e-6)).requires_grad_(True)
    optimizer = torch.optim.Adam([w], lr=0.01)
    const, leads = torch.full((4,), 5.0), []
    for step in range(24):
        if step == 12:
            reached = torch.stack(leads).amax(dim=0) > 0
            assert 0 < reached.sum() < 4
            const, state = torch.where(reached, 2.5, 50.0), optimizer.state[w]
            state["exp_avg"] *= (1 - 0.9**10) / (1 - 0.9**12)
            state["exp_avg_sq"] *= (1 - 0.999**10) / (1 - 0.999**12)
            state["step"].fill_(10)
        image = (torch.tanh(w) + 1) / 2
        torch.testing.assert_close(seen[step + 1], image.detach(), rtol=0, atol=1e-5)  # the first look is at x itself
        logits = model(image.double())
        lead = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1) - logits.gather(1, y[:, None]).squeeze(1)
        leads.append(lead.detach())
        optimizer.zero_grad()
        ((image - x).square().sum() + (const * (-lead).clamp(min=0)).sum()).backward(inputs=[w])
        optimizer.step()


def test_more_descents_find_nearer_images():
    model, x, y = tilted_problem(8)
    once, often = (CarliniWagner(steps=60, lr=0.05, initial_const=100.0, binary_search_steps=n) for n in (1, 6))
    assert once.run(model, x, y).success.all()
    far, near = (distance(x, attack.run(model, x, y).images, "L2") for attack in (once, often))
    assert (near <= far).all()
    assert near.mean() < 0.9 * far.mean()


def test_ending_descents_without_progress_saves_steps_and_hardly_costs_distance():
    model, x, y = linear_problem()
    images: list[int] = []

    def forward(batch: Tensor) -> Tensor:
        images.append(len(batch))
        return model(batch.double())

    lengths, costs = [], []
    for abort_early in (True, False):
        images.clear()
        attack = CarliniWagner(steps=200, lr=0.02, initial_const=0.1, abort_early=abort_early)
        lengths.append(distance(x, attack.run(forward, x, y).images, "L2").mean())
        costs.append(sum(images))
    assert lengths[0] <= 1.01 * lengths[1]
    assert costs[0] < 0.7 * costs[1]
    assert costs[1] == len(x) * (9 * 200 + 2)  # every descent to its end; a look at the first and the last images


def test_finished_samples_leave_the_batch():
    model, x, y = tilted_problem(8)
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    SEARCHES["L2"].run(model, x, y)
    assert sizes[0] == sizes[-1] == len(x)  # the clean images, and the verdict on what was found
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert sizes[-2] < len(x)


def test_l0_leaves_all_other_pixels_bit_for_bit_as_they_were():
    model, x, y = tilted_problem(8)
    result = SEARCHES["L0"].run(model, x, y)
    assert result.success.any()
    count = changed(x, result.images)
    assert (count[result.success] < 36).all()
    assert (count[~result.success] == 0).all()


def test_l0_needs_fewer_pixels_than_the_saliency_map(digits):
    model, x, y = digits
    x, y = x[:8], y[:8]
    ours = CarliniWagner(steps=100, lr=0.1, initial_const=0.1, norm="L0").run(model, x, y)
    saliency = JSMA(gamma=1.0).run(model, x, y)
    assert ours.success.all()
    assert saliency.success.all()
    assert changed(x, ours.images).double().mean() < changed(x, saliency.images).double().mean()


@every_norm
def test_training_gets_the_same_images_as_evaluation(norm):
    model, x, y = tilted_problem(4)
    assert torch.equal(SEARCHES[norm].craft(model, x, y), SEARCHES[norm].run(model, x, y).images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "must be at least 1"),
        ({"binary_search_steps": 0}, "must be at least 1"),
        ({"norm": "L1"}, "must be L2, Linf or L0"),
        ({"lr": 0.0}, "must be positive and finite"),
        ({"initial_const": -1.0}, "must be positive and finite"),
        ({"confidence": -1.0}, "confidence must be finite"),
        ({"norm": "L0", "eps": 3}, "leave eps out"),
        ({"eps": -1}, "eps must be finite and not negative"),
    ],
)
def test_refuses_what_cannot_be_meant(arguments, message):
    with pytest.raises(InputError, match=message):
        CarliniWagner(**arguments)


def test_the_distances_of_a_descent_on_digits_are_foolboxs(digits):
    ours, theirs, _, _ = beside_foolbox(digits, binary_search_steps=1, initial_const=5.0, abort_early=False)
    ratio = ours / theirs
    assert (ratio < 1.02).float().mean() > 0.75
    assert ratio.median() == pytest.approx(1, abs=1e-3)


def test_the_search_on_digits_ends_nearer_than_foolboxs_after_fewer_passes(digits):
    ours, theirs, passes, their_passes = beside_foolbox(digits, binary_search_steps=5, initial_const=1.0)
    assert ours.mean() <= theirs.mean()
    assert (ours < 1.02 * theirs).float().mean() > 0.75
    assert passes < their_passes / 1.5


def beside_foolbox(digits, **shared) -> tuple[Tensor, Tensor, int, int]:
    """L2 distances of both attacks on the digits that both break, of which there are many, and images in forwards."""
    foolbox, (model, x, y) = imported("foolbox"), digits
    x, y = x[:24], y[:24]
    images: list[int] = []
    watch = model.register_forward_pre_hook(lambda module, args: images.append(len(args[0])))
    shared = {"steps": 80, **shared}
    peer = foolbox.attacks.L2CarliniWagnerAttack(**shared, stepsize=0.05)
    theirs = peer(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=None)[0]
    their_passes = sum(images)
    result = CarliniWagner(**shared, lr=0.05).run(model, x, y)
    passes = sum(images) - their_passes
    watch.remove()
    reached = theirs.flatten(1).any(dim=1)  # where foolbox finds nothing, it returns a black image
    assert (result.success | ~reached).all()
    both = result.success & reached
    assert both.sum() > 20
    return distance(x, result.images, "L2")[both], distance(x, theirs, "L2")[both], passes, their_passes


def test_the_distances_at_a_fixed_constant_are_torchattacks(digits):
    torchattacks, (model, x, y) = imported("torchattacks"), digits
    x, y = x[:40], y[:40]
    theirs = torchattacks.CW(model, c=1, kappa=0, steps=150, lr=0.02)(x, y)
    ours = CarliniWagner(steps=150, lr=0.02, initial_const=1.0, binary_search_steps=1, abort_early=False)
    result = ours.run(model, x, y)
    reached = predicted(model, theirs) != y
    assert (result.success | ~reached).all()  # it never moves a pixel that is 0 or 1
    assert 4 < reached.sum() < len(x)
    assert distance(x, result.images, "L2")[reached].mean() <= 1.02 * distance(x, theirs, "L2")[reached].mean()
