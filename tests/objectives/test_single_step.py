"""Training with a single step of attack: N-FGSM and GradAlign."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.attacks.ball import Ball
from lightning_adv.attacks.noise import DeviceNoise
from lightning_adv.errors import InputError
from lightning_adv.objectives import AWP, NFGSM, AdversarialTraining, GradAlign

from .problems import batch, normalised_net, smooth_net

EPS = 0.05


def started(x: Tensor, length: float) -> Tensor:
    """The noisy images that an objective begins with, drawn by the seed that its own call begins with."""
    torch.manual_seed(5)
    return Ball(x, length).random_point(DeviceNoise())


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x, create_graph=True)[0]


@pytest.mark.parametrize("noise", [0.5, 2.0, 3.0])
def test_n_fgsm_steps_from_its_noise_and_is_not_brought_back_into_the_ball(noise):
    model, (x, y) = smooth_net(), batch()
    start = started(x, noise * EPS)
    crafted = (torch.manual_seed(5), NFGSM(EPS, noise=noise).craft(model, x, y))[1]
    torch.testing.assert_close(crafted, (start + EPS * input_gradient(model, start, y).sign()).clamp(0, 1))
    assert (0.9 * (1 + noise) * EPS) < (crafted - x).abs().max() <= (1 + noise) * EPS + 1e-6


def test_the_warm_up_of_n_fgsm_shortens_step_and_noise():
    model, (x, y) = smooth_net(), batch()
    objective = NFGSM(EPS, warmup_epochs=4)
    objective.at_epoch(1)
    torch.manual_seed(5)
    grown = objective.craft(model, x, y)
    torch.manual_seed(5)
    torch.testing.assert_close(grown, NFGSM(EPS / 4).craft(model, x, y))


def by_hand(model: nn.Module, x: Tensor, y: Tensor, noisy: Tensor, fixed: Tensor | None = None) -> Tensor:
    """1 - mean cosine, the gradient at the images given or taken here."""
    there = input_gradient(model, x, y) if fixed is None else fixed
    return 1 - F.cosine_similarity(there.flatten(1), input_gradient(model, noisy, y).flatten(1)).mean()


def test_grad_align_adds_one_minus_the_cosine_to_training_on_fgsm():
    model, (x, y) = smooth_net(), batch()
    objective = GradAlign(EPS, weight=3.0)
    x_adv = objective.craft(model, x, y)
    torch.testing.assert_close(x_adv, (x + EPS * input_gradient(model, x, y).sign()).clamp(0, 1))
    noisy = started(x, EPS)
    torch.manual_seed(5)
    loss, logits = objective.loss(model, x, x_adv, y)
    torch.testing.assert_close(loss, F.cross_entropy(model(x_adv), y) + 3 * by_hand(model, x, y, noisy))
    torch.testing.assert_close(logits, model(x_adv).detach())


def test_the_second_gradient_of_grad_align_agrees_with_a_finite_difference():
    model, (x, y) = smooth_net().double(), batch()
    noisy, fixed = started(x, EPS).double(), input_gradient(model, x.double(), y).detach()
    torch.manual_seed(5)
    misaligned = 1 - GradAlign(EPS).alignment(model, x, y)
    weights = list(model.parameters())
    grads = torch.autograd.grad(misaligned, weights, allow_unused=True)
    torch.manual_seed(0)
    for weight, grad in zip(weights, grads, strict=True):
        direction, values = torch.randn_like(weight), []
        for step in (1e-4, -1e-4):
            with torch.no_grad():
                weight += step * direction
            values.append(by_hand(model, x.double(), y, noisy, fixed).item())
            with torch.no_grad():
                weight -= step * direction
        found = 0.0 if grad is None else float((grad * direction).sum())
        assert found == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-3, abs=1e-7)
    assert sum(grad is not None and bool(grad.abs().max() > 1e-5) for grad in grads) >= 3


def test_gradients_of_a_linear_loss_are_aligned_and_images_without_one_do_not_count():
    x, y = batch()

    class Signs(nn.Module):
        """Logits linear in the image, but for the first half of the batch, whose are constant."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 72))

        def forward(self, x: Tensor) -> Tensor:
            moves = (torch.arange(len(x)) >= len(x) // 2).float()[:, None]
            return moves * (1e-3 * x.flatten(1) @ self.weight.T)

    model = Signs()
    objective = GradAlign(1e-3)
    alignment = objective.alignment(model, x, y)
    assert alignment.item() == pytest.approx(1.0, abs=1e-4)
    objective(model, x, y)[0].backward()
    assert model.weight.grad.isfinite().all()


def test_the_gradients_of_grad_align_leave_the_statistics_to_the_attacked_images():
    for wrap, records in ((lambda objective: objective, 1), (AWP, 1)):
        model, (x, y) = normalised_net(), batch()
        torch.manual_seed(1)
        wrap(GradAlign(EPS))(model, x, y)[0].backward()
        assert model[1].num_batches_tracked == records
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_grad_align_trains_a_compiled_net_as_any_other():
    x, y = batch()

    def gradients(model: nn.Module) -> list[Tensor]:
        torch.manual_seed(5)
        GradAlign(EPS)(model, x, y)[0].backward()
        return [parameter.grad for parameter in model.parameters()]

    compiled = smooth_net()
    compiled.compile(backend="aot_eager")  # which has no second derivative, as inductor's code has none
    torch.testing.assert_close(gradients(compiled), gradients(smooth_net()))


@pytest.mark.parametrize(("eps", "weight"), [(1, 0.027), (8, 0.2), (16, 2.0), (14, math.sqrt(0.632 * 2)), (64, 2.0)])
def test_the_weight_of_grad_align_is_the_papers_for_its_eps(eps, weight):
    assert GradAlign(f"{eps}/255").weight == pytest.approx(weight)


def test_grad_align_without_weight_is_training_on_fgsm():
    model, (x, y) = smooth_net(), batch()
    objective = GradAlign(EPS, weight=0.0)
    assert torch.equal(objective(model, x, y)[0], AdversarialTraining(objective.attack)(model, x, y)[0])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: NFGSM(noise=-1.0), "noise must not be negative"),
        (lambda: NFGSM(8), "did you mean 8/255"),
        (lambda: GradAlign(weight=-0.1), "weight must not be negative"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()
