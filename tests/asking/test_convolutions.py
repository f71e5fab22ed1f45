import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.asking import convolved, logits_of, quick_convolutions

CPU = torch.device("cpu")
SETTINGS = {
    "plain": ((3, 3), (1, 1), (0, 0), (1, 1)),
    "padded": ((3, 3), (1, 1), (2, 2), (1, 1)),
    "strided": ((4, 4), (2, 2), (1, 1), (1, 1)),
    "uneven": ((3, 5), (2, 3), (1, 0), (1, 1)),
    "unseen pixels": ((1, 2), (3, 2), (0, 0), (1, 1)),
    "dilated": ((2, 3), (2, 1), (1, 2), (1, 3)),
}
every_setting = pytest.mark.parametrize("name", SETTINGS)


@every_setting
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_it_is_the_convolution_and_so_are_its_gradients(name, channels):
    kernel, *settings = SETTINGS[name]
    torch.manual_seed(0)
    image = torch.rand(2, channels, 11, 14, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, channels, *kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    theirs, ours = F.conv2d(image, weight, bias, *settings), convolved(image, weight, bias, *settings)
    torch.testing.assert_close(ours, theirs)
    direction, asked = torch.randn_like(theirs), [image, weight, bias]
    torch.testing.assert_close(
        torch.autograd.grad(ours, asked, direction), torch.autograd.grad(theirs, asked, direction)
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding="same", groups=2), nn.Conv2d(6, 20, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(20, 4, 1), nn.Flatten(), nn.Linear(64, 5),
    ).requires_grad_(False)  # fmt: skip


def answer_and_gradient(model, x, quick, low=False):
    x = x.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=low), quick_convolutions(CPU if quick else torch.device("meta")):
        logits = logits_of(model, x)
    return logits.detach(), torch.autograd.grad(logits.logsumexp(dim=1).sum(), x)[0]


def test_a_network_answers_as_before_and_is_left_as_it_was():
    model, x = network(), torch.rand(3, 3, 10, 10)
    kept, strides = copy.deepcopy(model.state_dict()), [weight.stride() for weight in model.parameters()]
    plain, quick = (answer_and_gradient(model, x, quick) for quick in (False, True))
    torch.testing.assert_close(quick, plain)
    assert [weight.stride() for weight in model.parameters()] == strides
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_under_autocast_it_computes_in_bfloat16_as_well():
    model, x = network(), torch.rand(3, 3, 10, 10)
    exact = answer_and_gradient(model, x, quick=False)
    plain, quick = (answer_and_gradient(model, x, quick, low=True) for quick in (False, True))
    for one, other, truth in zip(plain, quick, exact, strict=True):
        assert 0 < (other - truth).norm() < 2 * (one - truth).norm()


def test_weights_in_training_get_their_gradients():
    model, x = network().requires_grad_(True), torch.rand(2, 3, 10, 10)
    with quick_convolutions(CPU):
        ours = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    torch.testing.assert_close(ours, torch.autograd.grad(model(x).square().sum(), list(model.parameters())))


def test_channels_lie_together_also_those_of_grey_images():
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).requires_grad_(False)
    with quick_convolutions(CPU):
        answer = layers(torch.rand(2, 1, 8, 8, requires_grad=True))
    assert answer.is_contiguous(memory_format=torch.channels_last)


def test_the_gradient_of_a_flattened_answer_comes_in_its_layout():
    seen = []
    answer = torch.rand(2, 4, 3, 3, requires_grad=True).clone(memory_format=torch.channels_last)
    answer.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=torch.channels_last)))
    with quick_convolutions(CPU):
        flat = nn.Flatten()(answer)
    flat.square().sum().backward()
    assert seen == [True]
    assert torch.equal(flat, answer.flatten(1))


def test_compiled_code_is_what_it_was_compiled_to():
    model, x = network()[:4], torch.rand(2, 3, 10, 10)
    made = torch.compile(model, backend="eager")
    with quick_convolutions(CPU):
        compiled = made(x)
    torch.testing.assert_close(compiled, model(x))
