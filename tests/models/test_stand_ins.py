import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from lightning_adv.models import create_model
from lightning_adv.models.stand_ins import StridedConv2d, put_in


@pytest.mark.parametrize("stride", [2, (3, 1), (1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_and_so_are_its_gradients(stride, bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 6, 1, stride, bias=bias).double()
    image = torch.rand(2, 3, 7, 8, dtype=torch.float64, requires_grad=True)
    strided = StridedConv2d.of(plain)
    torch.testing.assert_close(strided(image), plain(image))
    direction, asked = torch.randn_like(plain(image)), [image, *plain.parameters()]
    theirs = torch.autograd.grad(plain(image), asked, direction)
    torch.testing.assert_close(torch.autograd.grad(strided(image), asked, direction), theirs)


def test_it_takes_the_place_of_strided_convolutions_of_few_channels_and_of_no_others():
    others = [nn.Conv2d(16, 4, 1, 2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 1, 2, padding=1),
              nn.Conv2d(4, 4, 1, 2, groups=2)]  # fmt: skip
    model = nn.Sequential(nn.Conv2d(4, 4, 1, 2), nn.Sequential(nn.Conv2d(15, 4, 1, 2)), *others)
    weights, printed = dict(model.named_parameters()), repr(model)
    put_in(model, StridedConv2d)
    assert [name for name, each in model.named_modules() if isinstance(each, StridedConv2d)] == ["0", "1.0"]
    assert all(weights[name] is each for name, each in model.named_parameters())
    assert repr(model) == printed


@pytest.mark.parametrize(("width", "replaced"), [(4, 2), (16, 0)])  # 4 and 8 channels; 16 and more
def test_a_network_that_is_created_narrow_has_it_in_its_shortcuts(width, replaced):
    options = {"num_classes": 3, "in_channels": 3, "image_size": (8, 8), "backbone_options": {"width": width}}
    modules = create_model("preact_resnet18", **options).modules()
    assert sum(isinstance(each, StridedConv2d) for each in modules) == replaced


NARROW = """
import copy
import torch
from torch import nn
from lightning_adv.models import compile_classifier
from lightning_adv.models.stand_ins import StridedConv2d, put_in

torch.set_num_threads(1)
torch.manual_seed(0)
last = {"memory_format": torch.channels_last}
layers = [nn.Conv2d(4, 8, 1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 3)]
eager, compiled = (copy.deepcopy(nn.Sequential(*layers)).to(**last) for _ in range(2))
put_in(eager, StridedConv2d)
compile_classifier(compiled)
for net in (eager, compiled):
    for _ in range(60):
        image = torch.rand(4, 4, 16, 16).to(**last).requires_grad_()
        torch.autograd.grad(net(image).sum(), [image, *net.parameters()])
        others = [torch.rand(size) for size in range(1, 200, 7)]
"""


@pytest.mark.slow
def test_a_backward_pass_through_few_channels_does_not_overwrite_the_heap():
    """Alone and compiled; glibc ends a process whose heap is no longer sound."""
    command = [sys.executable, "-W", "ignore", "-c", NARROW]
    done = subprocess.run(command, env=os.environ | {"MALLOC_CHECK_": "3"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
