"""DeepFool finds the nearest boundary of a linear model in one step, and what foolbox finds on real digits."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import DeepFool
from lightning_adv.errors import InputError

from .minimal_norm import (
    distance,
    linear_problem,
    minimal_distance,
    predicted,
)
from .problems import images, tilted_problem
from .test_parity import imported

both_norms = pytest.mark.parametrize("norm", ["L2", "Linf"])


@both_norms
@pytest.mark.parametrize("overshoot", [0.02, 0.1])
def test_one_step_crosses_the_nearest_of_all_linear_boundaries_by_the_overshoot(norm, overshoot):
    model, x, y = linear_problem()
    result = DeepFool(steps=1, norm=norm, overshoot=overshoot, candidates=None).run(model, x, y)
    assert result.success.all()
    expected = (1 + overshoot) * minimal_distance(model, x, y, norm)
    torch.testing.assert_close(distance(x, result.images, norm), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("candidates", "reached", "length"), [(2, 1, 0.25), (3, 2, 0.2), (None, 2, 0.2)])
def test_only_the_most_likely_candidates_are_looked_at(candidates, reached, length):
    def forward(images: Tensor) -> Tensor:
        """At mid-grey class 1 is the runner-up, class 2 the nearest."""
        first, second = images.flatten(1)[:, 0], images.flatten(1)[:, 1]
        return torch.stack([first * 0, 0.4 * first - 0.3, second - 0.7], dim=1)

    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    result = DeepFool(candidates=candidates).run(forward, x, y)
    assert result.logits.argmax(dim=1).item() == reached
    assert distance(x, result.images, "L2").item() == pytest.approx(1.02 * length, rel=1e-4)


@both_norms
def test_steps_to_the_explicit_target(norm):
    model, x, y = tilted_problem(6)
    target = (y + 1) % 3
    result = DeepFool(norm=norm).run(model, x, y, target=target)
    assert result.success.all()
    assert torch.equal(predicted(model, result.images), target)
    nearest = DeepFool(norm=norm).run(model, x, y).images
    assert (distance(x, result.images, norm) >= 0.98 * distance(x, nearest, norm)).all()


def test_an_image_on_the_boundary_itself_crosses_it():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0]]))
    x = torch.full((1, 1, 2, 2), 0.5)  # both logits are one, and the first class wins
    result = DeepFool().run(model, x, torch.tensor([0]))
    assert result.success.all()
    assert distance(x, result.images, "L2").item() < 2e-4


@both_norms
def test_a_gradient_too_small_to_square_still_leads_to_the_boundary(norm):
    model, x, y = linear_problem()
    result = DeepFool(norm=norm).run(lambda images: model(images.double()) * 1e-30, x, y)
    expected = 1.02 * minimal_distance(model, x, y, norm)
    torch.testing.assert_close(distance(x, result.images, norm), expected, rtol=1e-4, atol=0)


@both_norms
def test_without_a_gradient_nothing_moves(norm):
    x = images()
    result = DeepFool(norm=norm, steps=3).run(
        lambda images: images.flatten(1)[:, :3] * 0 + torch.tensor([1.0, 0, 0]), x, x.new_zeros(6).long()
    )
    assert not result.success.any()
    assert result.zero_gradient.all()
    assert torch.equal(result.images, x)


def test_fooled_samples_leave_the_batch_and_later_steps_look_at_the_three_nearest_classes():
    model, x, y = linear_problem(12, classes=8)
    sizes, backwards = [], []

    def forward(images: Tensor) -> Tensor:
        logits = torch.sinh(2 * model(images.double()))  # curved: several steps
        if images.requires_grad:
            sizes.append(len(images))
            backwards.append(0)
            logits.register_hook(count)
        return logits

    def count(grad: Tensor) -> None:
        backwards[-1] += 1

    assert DeepFool(candidates=None).run(forward, x, y).success.all()
    assert backwards == [7] + [3] * (len(backwards) - 1)
    assert sizes[0] == len(x)
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] < len(x)


def test_a_traced_model_whose_backward_runs_only_once_gives_the_same_images():
    torch.compiler.reset()
    model, x, y = linear_problem()
    plain = DeepFool().run(model.float(), x, y)
    traced = DeepFool().run(torch.compile(model, backend="aot_eager"), x, y)
    assert torch.equal(plain.success, traced.success)
    torch.testing.assert_close(traced.images, plain.images, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"norm": "L1"}, "must be L2 or Linf"),
        ({"norm": "l2"}, "norm must be one of"),
        ({"overshoot": -0.1}, "overshoot must be finite and not negative"),
        ({"candidates": 1}, "candidates must be at least 2"),
        ({"eps": -1}, "eps must be finite and not negative"),
    ],
)
def test_refuses_what_cannot_be_meant(arguments, message):
    with pytest.raises(InputError, match=message):
        DeepFool(**arguments)


@both_norms
def test_finds_what_foolbox_finds_on_digits(digits, norm):
    foolbox, (model, x, y) = imported("foolbox"), digits
    x, y = x[:80], y[:80]
    peer = foolbox.attacks.L2DeepFoolAttack() if norm == "L2" else foolbox.attacks.LinfDeepFoolAttack()
    theirs, _, fooled = peer(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=None)
    ours = DeepFool(norm=norm).run(model, x, y)
    assert torch.equal(ours.success, fooled)
    assert distance(x, ours.images, norm).mean() <= 1.005 * distance(x, theirs, norm).mean()


def test_is_never_behind_torchattacks_on_digits(digits):
    torchattacks, (model, x, y) = imported("torchattacks"), digits
    x, y = x[:10], y[:10]
    theirs = torchattacks.DeepFool(model, steps=50, overshoot=0.02)(x, y)
    ours = DeepFool().run(model, x, y)
    fooled = predicted(model, theirs) != y
    assert (ours.success | ~fooled).all()
    assert distance(x, ours.images, "L2")[fooled].mean() <= 1.02 * distance(x, theirs, "L2")[fooled].mean()
