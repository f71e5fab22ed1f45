"""Randomised and non-differentiable models: the mean over draws, and a stand-in for the gradient."""

import pytest
import torch
from torch import nn

from lightning_adv.attacks import BPDA, EOT, FGSM, PGD, Goal
from lightning_adv.errors import InputError

from .problems import images, smooth_cnn, tilted_problem


class Noisy(nn.Module):
    """Adds noise to its input, from the global generator."""

    def __init__(self, model: nn.Module, size: float) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x):
        return self.model((x + self.size * torch.randn_like(x)).double())


def test_one_draw_of_a_deterministic_model_changes_nothing():
    model, x, y = tilted_problem()
    attack = PGD(eps=0.03, steps=5)
    assert torch.allclose(EOT(attack, samples=3)(model, x, y), attack(model, x, y), atol=1e-6)


def test_the_gradient_is_the_mean_of_the_draws_gradients():
    x, y = images(1), torch.tensor([1])
    torch.manual_seed(0)
    mean = torch.stack([Goal(Noisy(smooth_cnn(), 2.0), x, y).gradient(x) for _ in range(400)]).mean(dim=0)
    folded = Goal(Noisy(smooth_cnn(), 2.0), x, y, draws=400).gradient(x)
    single = Goal(Noisy(smooth_cnn(), 2.0), x, y).gradient(x)
    assert (folded - mean).norm() < 0.3 * (single - mean).norm()


def test_draws_are_folded_into_one_forward():
    model, x, y = tilted_problem(4)
    sizes = []
    model.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    EOT(PGD(eps=0.001, steps=2), samples=5).run(model, x, y)
    assert sizes == [20, 20, 20]


def test_no_draws_are_refused():
    with pytest.raises(InputError, match="samples must be at least 1"):
        EOT(FGSM(), samples=0)


def test_bpda_goes_forward_through_the_real_step_and_backward_through_the_stand_in():
    x = images(2).requires_grad_(True)
    out = BPDA(lambda image: (image * 4).round() / 4, surrogate=lambda image: image**2)(x)
    assert torch.allclose(out, (x * 4).round() / 4, atol=1e-7)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(grad, 2 * x)


def test_bpda_opens_a_quantised_model_to_gradients():
    model, x, y = tilted_problem(24)
    quantise = lambda image: (image * 255).round() / 255  # noqa: E731
    masked = nn.Sequential(type("Quantise", (nn.Module,), {"forward": lambda self, image: quantise(image)})(), model)
    opened = nn.Sequential(BPDA(quantise), model)
    attack = PGD(eps=0.03, steps=20, start="clean")
    assert attack.run(masked, x, y).zero_gradient.all()
    assert attack.run(opened, x, y).success.sum() > attack.run(masked, x, y).success.sum()
