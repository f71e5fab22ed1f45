"""The one forward: images untouched, float32 out, gradients that float16 does not swallow, one look at the values."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.asking import answer_of, logits_of

SMALLEST = 2.0**-24
"""The smallest number of float16 above zero."""


class InPlace(nn.Module):
    """Normalises the very tensor that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.sub_(0.5).div_(0.25).relu_().flatten(1))


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ask", [logits_of, answer_of])
@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_model_that_works_in_place_leaves_the_images_alone(ask, context):
    model, x = InPlace().requires_grad_(False), images()
    with context():
        twice = [ask(model, x) for _ in range(2)]
    assert torch.equal(x, images())
    assert torch.equal(*twice)


def test_the_gradient_of_a_model_that_works_in_place_is_that_of_the_images():
    model, x = InPlace(), images().requires_grad_(True)
    (found,) = torch.autograd.grad(logits_of(model, x)[:, 0].sum(), x)
    apart = images().requires_grad_(True)
    hidden = ((apart - 0.5) / 0.25).relu()
    (expected,) = torch.autograd.grad(model.head(hidden.flatten(1))[:, 0].sum(), apart)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_go_in_as_the_weights_are_and_logits_come_out_in_float32(dtype):
    seen = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to(dtype)
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    assert logits_of(model, images()).dtype == torch.float32
    assert seen == [dtype]


def confident(dtype: torch.dtype, *, lead: float) -> nn.Module:
    """A linear model that is so sure of class 0 that the gradient of its loss is about exp(-lead)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    with torch.no_grad():
        weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
        model[1].weight.copy_(weight.half())  # what float16 can hold, so that both are one model
        model[1].bias.copy_(torch.tensor([lead, 0.0, 0.0]))
    return model.to(dtype).eval()


def loss_gradient(model: nn.Module, x: Tensor, label: int = 0) -> Tensor:
    x = x.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(logits_of(model, x), torch.full((len(x),), label), reduction="sum")
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("lead", [0.0, 30.0, 60.0])
def test_half_precision_rounds_gradients_of_any_size_alike(lead):
    x = images().half().float()
    exact, half = (loss_gradient(confident(dtype, lead=lead), x) for dtype in (torch.float32, torch.float16))
    assert lead == 0 or exact.abs().amax() < SMALLEST
    torch.testing.assert_close(half / exact.abs().amax(), exact / exact.abs().amax(), rtol=0, atol=0.02)


def test_a_sure_image_is_not_drowned_by_an_unsure_one_of_its_batch():
    x = images(2).half().float()
    x[1] = 0.0
    model = confident(torch.float16, lead=0.0)
    model[1].weight.data[0] += 8 * x[0].flatten().half()  # sure of the first image, in doubt about the second
    grad = loss_gradient(model, x)
    sure, unsure = grad.flatten(1).abs().amax(dim=1)
    assert 0 < sure < SMALLEST < unsure
    assert torch.equal(grad[:1], loss_gradient(model, x[:1]))


def test_images_that_depend_on_each_other_are_scaled_together():
    def normalised(dtype: torch.dtype) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False).train()
        model[2].weight.data.mul_(20)
        return model.to(dtype)

    exact, half = (loss_gradient(normalised(dtype), images()) for dtype in (torch.float32, torch.float16))
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0.01 * exact.abs().amax().item())


def test_the_gradients_of_weights_are_not_scaled():
    model = confident(torch.float16, lead=5.0).requires_grad_(True)
    x = images().requires_grad_(True)
    loss = nn.functional.cross_entropy(logits_of(model, x), torch.zeros(4, dtype=torch.long))
    found, _ = torch.autograd.grad(loss, [model[1].bias, x])
    p = logits_of(model, images()).softmax(dim=1)
    expected = (p - torch.eye(3)[0]).mean(dim=0)
    torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=1e-5)


def test_several_gradients_of_one_forward_are_each_scaled_for_themselves():
    model, x = confident(torch.float16, lead=0.0), images().half().float().requires_grad_(True)
    logits = logits_of(model, x)
    sums = (1e-9 * logits[:, 0].sum(), 1e3 * logits[:, 1].sum())
    found = [torch.autograd.grad(each, x, retain_graph=True)[0][0].flatten() for each in sums]
    torch.testing.assert_close(found[0], 1e-9 * model[1].weight[0].float(), rtol=2e-3, atol=0)
    torch.testing.assert_close(found[1], 1e3 * model[1].weight[1].float(), rtol=2e-3, atol=0)


def test_probabilities_are_said_once_in_the_life_of_a_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="look like probabilities .* return the logits, without the softmax"):
        logits_of(model, images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits_of(model, images())
