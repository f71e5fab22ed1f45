"""What an attack costs: k forwards and k backwards to the input for k steps, and never a weight gradient."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import BIM, FGSM, PGD
from lightning_adv.objectives import TRADES, AdversarialTraining, CrossEntropy

from .problems import images

STEPS = 7


class CountedProduct(torch.autograd.Function):
    """x W^T that notes which of its gradients are asked for."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, counts: dict[str, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.counts = counts
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        to_input, to_weight, _ = ctx.needs_input_grad
        ctx.counts["input backwards"] += to_input
        ctx.counts["weight backwards"] += to_weight
        return (grad @ weight if to_input else None), (grad.T @ x if to_weight else None), None


class CountingClassifier(nn.Module):
    """Two layers; the second one counts, so that an input gradient passes through it on the way to the image."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(16, 72, generator=generator) * 0.1)
        self.second = nn.Parameter(torch.randn(3, 16, generator=generator))
        self.counts = {"forwards": 0, "input backwards": 0, "weight backwards": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.counts["forwards"] += 1
        hidden = torch.tanh(x.flatten(1) @ self.first.T)
        return CountedProduct.apply(hidden, self.second, self.counts)


def counted(forwards: int, input_backwards: int, weight_backwards: int = 0) -> dict[str, int]:
    return {"forwards": forwards, "input backwards": input_backwards, "weight backwards": weight_backwards}


def unreachable(model: CountingClassifier, x: Tensor) -> Tensor:
    """Labels that a tiny budget cannot leave."""
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    model.counts["forwards"] = 0
    return y


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("start", ["uniform", "clean", "gaussian"])
def test_k_steps_are_k_forwards_and_k_backwards_to_the_input(norm, start):
    model, x = CountingClassifier(), images()
    PGD(eps=0.1, steps=STEPS, norm=norm, start=start)(model, x, torch.zeros(6, dtype=torch.int64))
    assert model.counts == counted(STEPS, STEPS)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_crafting_costs_the_same(mode):
    model, x = CountingClassifier(), images()
    PGD(eps=0.1, steps=STEPS).craft(model, x, torch.zeros(6, dtype=torch.int64), mode=mode)
    assert model.counts == counted(STEPS, STEPS)


def test_an_evaluation_costs_one_forward_more_to_judge_the_last_iterate():
    model, x = CountingClassifier(), images()
    y = unreachable(model, x)
    assert not PGD(eps=1e-5, steps=STEPS).run(model, x, y).success.any()
    assert model.counts == counted(STEPS + 1, STEPS)


def test_each_restart_costs_as_much_as_the_first_where_no_sample_falls():
    model, x = CountingClassifier(), images()
    y = unreachable(model, x)
    PGD(eps=1e-5, steps=STEPS, restarts=3).run(model, x, y)
    assert model.counts == counted(3 * (STEPS + 1), 3 * STEPS)


def test_an_evaluation_stops_when_every_sample_has_fallen():
    model, x = CountingClassifier(), images()
    y = (unreachable(model, x) + 1) % 3  # wrong from the outset
    assert PGD(eps=1e-5, steps=100, restarts=5).run(model, x, y).success.all()
    assert model.counts["input backwards"] == 5
    assert model.counts["forwards"] == 5


@pytest.mark.parametrize(("attack", "steps"), [(FGSM(), 1), (BIM(steps=STEPS), STEPS)])
def test_fgsm_is_one_step_and_bim_is_its_steps(attack, steps):
    model, x = CountingClassifier(), images()
    attack(model, x, torch.zeros(6, dtype=torch.int64))
    assert model.counts == counted(steps, steps)


def trained(objective, model: CountingClassifier) -> dict[str, int]:
    loss, _ = objective(model, images(), torch.zeros(6, dtype=torch.int64))
    loss.backward()
    return model.counts


def test_standard_training_is_one_forward_and_one_full_backward():
    assert trained(CrossEntropy(), CountingClassifier()) == counted(1, 1, 1)


def test_adversarial_training_adds_one_forward_and_one_full_backward_to_its_attack():
    assert trained(AdversarialTraining(PGD(steps=STEPS)), CountingClassifier()) == counted(STEPS + 1, STEPS + 1, 1)


def test_the_mixed_objective_needs_no_second_forward_for_the_clean_half():
    objective = AdversarialTraining(PGD(steps=STEPS), clean_weight=0.5)
    assert trained(objective, CountingClassifier()) == counted(STEPS + 1, STEPS + 1, 1)


def test_trades_forwards_the_clean_images_once_for_the_attack_and_both_kinds_once_for_the_loss():
    assert trained(TRADES(PGD(steps=STEPS)), CountingClassifier()) == counted(STEPS + 3, STEPS + 2, 2)
