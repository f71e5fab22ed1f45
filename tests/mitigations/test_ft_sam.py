"""FT-SAM follows the gradient at the worst weights of an ellipsoid, which it reaches by the formula of the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.mitigations import FTSAM
from lightning_adv.mitigations.ft_sam import worst
from tests.mitigations.problems import halves, hand_built


def test_the_worst_weights_lie_on_the_ellipsoid_where_the_gradient_points():
    """Of v with |v / w| = rho, the one of the formula has the largest product with g: Cauchy and Schwarz."""
    random = torch.Generator().manual_seed(0)
    weights, grads = ({name: torch.randn(3, 4, generator=random) for name in "ab"} for _ in range(2))
    moved = worst(weights, grads, rho=2.0)
    relative = torch.stack([(moved[name] - weights[name]) / weights[name] for name in "ab"])
    assert relative.norm() == pytest.approx(2.0, rel=1e-5)
    gain = sum((grads[name] * (moved[name] - weights[name])).sum() for name in "ab")
    bound = 2.0 * torch.stack([grads[name] * weights[name] for name in "ab"]).norm()
    assert gain == pytest.approx(bound.item(), rel=1e-5)


def test_a_step_is_the_gradient_at_the_worst_weights_of_smoothed_labels():
    model, (x, y) = hand_built(), halves(5)
    chosen = torch.randperm(5, generator=torch.Generator().manual_seed(0))[1:]
    reference = hand_built()
    before = [p.detach().clone() for p in reference.parameters()]

    def grads():
        value = F.cross_entropy(reference(x[chosen]), y[chosen], label_smoothing=0.1)
        return torch.autograd.grad(value, list(reference.parameters()))

    first = grads()
    length = torch.stack([(w.abs() * g).norm() for w, g in zip(before, first, strict=True)]).norm()
    with torch.no_grad():
        for weight, w, g in zip(reference.parameters(), before, first, strict=True):
            weight.copy_(w + 0.5 * w.square() * g / length)
    expected = [w - 1e-3 * g for w, g in zip(before, grads(), strict=True)]
    FTSAM(rho=0.5, epochs=1, lr=1e-3, batch_size=4)(model, [(x, y)])
    for weight, each in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(weight, each, rtol=0, atol=1e-6)


def test_a_weight_that_the_loss_does_not_use_stays():
    model = hand_built()
    model.idle = nn.Linear(2, 2)
    model.forward = lambda x: nn.Sequential(*list(model.children())[:-1])(x)
    before = model.idle.weight.clone()
    FTSAM(epochs=1)(model, [halves()])
    assert torch.equal(model.idle.weight, before)


def test_numbers_that_cannot_be_meant_are_refused():
    with pytest.raises(InputError, match="rho >= 0"):
        FTSAM(rho=-1)
    with pytest.raises(InputError, match="label_smoothing in"):
        FTSAM(label_smoothing=1.0)
