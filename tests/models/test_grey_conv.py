import pytest
import torch
from torch import nn

from lightning_adv.models import compile_classifier
from lightning_adv.models.grey_conv import GreyConv2d

SHAPES = [(4, 2, 1, 1), (3, 1, 1, 1), (5, 1, 0, 2), ((3, 2), (1, 2), (1, 0), 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_and_so_are_its_gradients(shape, bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(1, 6, *shape, bias=bias).double()
    image = torch.rand(3, 1, 15, 13, dtype=torch.float64, requires_grad=True)
    grey = GreyConv2d.of(plain)
    torch.testing.assert_close(grey(image), plain(image))
    direction = torch.randn_like(plain(image))
    asked = [image, *plain.parameters()]
    theirs = torch.autograd.grad(plain(image), asked, direction)
    torch.testing.assert_close(torch.autograd.grad(grey(image), asked, direction), theirs)


def test_gradients_are_those_of_finite_differences():
    grey = GreyConv2d.of(nn.Conv2d(1, 2, 3, stride=2, padding=1).double())
    image = torch.rand(2, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(grey, {"weight": w}, x), (image, grey.weight)
    )


def test_under_autocast_it_is_the_plain_one():
    plain, image = nn.Conv2d(1, 4, 3), torch.rand(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = GreyConv2d.of(plain)(image), plain(image)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_compiling_puts_it_in_the_place_of_every_convolution_of_one_channel():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(2, 1, 3), nn.Conv2d(1, 1, 3)), Own(1, 1, 3),
        nn.Conv2d(1, 1, 3, padding="same"), nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
    )  # fmt: skip
    before, printed = dict(model.named_parameters()), repr(model)
    compile_classifier(model)
    grey = [name for name, module in model.named_modules() if isinstance(module, GreyConv2d)]
    assert grey == ["0", "1.1"]
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
    assert repr(model) == printed


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_torch_compile_follows_it_with_and_without_gradients(frozen, asked):
    grey = GreyConv2d.of(nn.Conv2d(1, 2, 3)).requires_grad_(not frozen)
    image = torch.rand(2, 1, 6, 5, requires_grad=asked)
    torch.testing.assert_close(torch.compile(grey, backend="eager", fullgraph=True)(image), grey(image))
