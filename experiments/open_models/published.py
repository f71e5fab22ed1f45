"""Networks of the field, written down independently of the project's own, with random weights under the field's names.

A network is a function of its weights and images. The weights come into being where they are first asked for, with
statistics of BatchNorm that no network starts with, so that one forward pass gives a file and the logits to expect.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CLASSES", "IMAGES", "MEAN", "NETWORKS", "STD", "Network", "State", "normalised", "published"]

State = dict[str, Tensor]

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
CLASSES = 5


class Weights(dict[str, Tensor]):
    """Weights by name, drawn when they are first used."""

    def __init__(self) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(7)

    def draw(self, name: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        if name not in self:
            self[name] = torch.randn(*shape, generator=self.random) * scale + offset
        return self[name]

    def conv(self, name: str, x: Tensor, out: int, size: int, stride: int = 1, padding: int | None = None) -> Tensor:
        weight = self.draw(f"{name}.weight", out, x.shape[1], size, size, scale=(x.shape[1] * size**2) ** -0.5)
        return F.conv2d(x, weight, stride=stride, padding=size // 2 if padding is None else padding)

    def same(self, name: str, x: Tensor, out: int, stride: int) -> Tensor:
        """A 3x3 convolution as TensorFlow pads it."""
        before = 1 if stride == 1 else 0
        return self.conv(name, F.pad(x, (before, 1, before, 1)), out, 3, stride, padding=0)

    def norm(self, name: str, x: Tensor) -> Tensor:
        channels = x.shape[1]
        scale, shift = self.draw(f"{name}.weight", channels, offset=1, scale=0.2), self.draw(f"{name}.bias", channels)
        mean = self.draw(f"{name}.running_mean", channels, scale=0.3)
        var = self.draw(f"{name}.running_var", channels, scale=0.1, offset=1)
        self.setdefault(f"{name}.num_batches_tracked", torch.tensor(100))
        return F.batch_norm(x, mean, var, scale, shift)

    def linear(self, name: str, maps: Tensor) -> Tensor:
        weight = self.draw(f"{name}.weight", CLASSES, maps.shape[1], scale=maps.shape[1] ** -0.5)
        return F.linear(maps.mean((2, 3)), weight, self.draw(f"{name}.bias", CLASSES))


def wide_resnet(w: Weights, x: Tensor) -> Tensor:
    """TRADES, RobustBench: WRN-28-2."""
    x = w.conv("conv1", x, 16, 3)
    for stage, out in enumerate((32, 64, 128), start=1):
        for i in range(4):
            block, stride = f"block{stage}.layer.{i}", 2 if i == 0 and stage > 1 else 1
            active = F.relu(w.norm(f"{block}.bn1", x))
            y = F.relu(w.norm(f"{block}.bn2", w.conv(f"{block}.conv1", active, out, 3, stride)))
            short = x if x.shape[1] == out else w.conv(f"{block}.convShortcut", active, out, 1, stride)
            x = short + w.conv(f"{block}.conv2", y, out, 3)
    return w.linear("fc", F.relu(w.norm("bn1", x)))


def preact_resnet(w: Weights, x: Tensor, *, last_norm: bool, raw: bool) -> Tensor:
    """Rice et al. (last_norm), Wong et al. (raw), pytorch-cifar (neither): PreActResNet-18 of width 4."""
    x = w.conv("conv1", x, 4, 3)
    for stage, out in enumerate((4, 8, 16, 32), start=1):
        for i in range(2):
            block, stride = f"layer{stage}.{i}", 2 if i == 0 and stage > 1 else 1
            active = F.relu(w.norm(f"{block}.bn1", x))
            y = F.relu(w.norm(f"{block}.bn2", w.conv(f"{block}.conv1", active, out, 3, stride)))
            y = w.conv(f"{block}.conv2", y, out, 3)
            same = x.shape[1] == out
            x = y + (x if same else w.conv(f"{block}.shortcut.0", x if raw else active, out, 1, stride))
    return w.linear("linear", F.relu(w.norm("bn", x)) if last_norm else x)


def resnet(w: Weights, x: Tensor) -> Tensor:
    """pytorch-cifar: ResNet-18 of width 4."""
    x = F.relu(w.norm("bn1", w.conv("conv1", x, 4, 3)))
    for stage, out in enumerate((4, 8, 16, 32), start=1):
        for i in range(2):
            block, stride = f"layer{stage}.{i}", 2 if i == 0 and stage > 1 else 1
            y = F.relu(w.norm(f"{block}.bn1", w.conv(f"{block}.conv1", x, out, 3, stride)))
            y = w.norm(f"{block}.bn2", w.conv(f"{block}.conv2", y, out, 3))
            short = x if x.shape[1] == out else w.conv(f"{block}.shortcut.0", x, out, 1, stride)
            short = short if x.shape[1] == out else w.norm(f"{block}.shortcut.1", short)
            x = F.relu(y + short)
    return w.linear("linear", x)


def dm_wide_resnet(w: Weights, x: Tensor, *, blocks: int, widening: int) -> Tensor:
    """Gowal et al.: WRN with SiLU; 4 blocks are depth 28, 11 are 70."""
    x = w.conv("init_conv", x, 16, 3)
    for stage in range(3):
        out = 16 * widening * 2**stage
        for i in range(blocks):
            block, stride = f"layer.{stage}.block.{i}", 2 if i == 0 and stage > 0 else 1
            active = F.silu(w.norm(f"{block}.batchnorm_0", x))
            y = F.silu(w.norm(f"{block}.batchnorm_1", w.same(f"{block}.conv_0", active, out, stride)))
            short = x if x.shape[1] == out else w.conv(f"{block}.shortcut", active, out, 1, stride)
            x = short + w.conv(f"{block}.conv_1", y, out, 3)
    return w.linear("logits", F.silu(w.norm("batchnorm", x)))


def dm_preact_resnet(w: Weights, x: Tensor) -> Tensor:
    """Rebuffi et al.: PreActResNet-18 with SiLU of width 4."""
    x = w.conv("conv_2d", x, 4, 3)
    for stage, out in enumerate((4, 8, 16, 32)):
        for i in range(2):
            block, stride = f"layer_{stage}.{i}", 2 if i == 0 and stage > 0 else 1
            y = w.same(f"{block}.conv_2d_1", F.silu(w.norm(f"{block}.batchnorm_0", x)), out, stride)
            y = w.conv(f"{block}.conv_2d_2", F.silu(w.norm(f"{block}.batchnorm_1", y)), out, 3)
            x = y + (x if x.shape[1] == out else w.same(f"{block}.shortcut", x, out, stride))
    return w.linear("logits", F.silu(w.norm("batchnorm", x)))


@dataclass(frozen=True)
class Network:
    """A published network, and how this project is asked for it.

    Args:
        title: what it is called.
        backbone, options: what it is called here.
        forward: logits of its weights and of normalised images.
    """

    title: str
    backbone: str
    forward: Callable[[Weights, Tensor], Tensor]
    options: dict[str, int | bool] = field(default_factory=dict)


NETWORKS = {
    "wide_resnet_28": Network("WideResNet of TRADES and RobustBench", "wide_resnet28_10", wide_resnet, {"widening": 2}),
    "preact_rice": Network(
        "PreActResNet-18 of Rice et al.",
        "preact_resnet18",
        functools.partial(preact_resnet, last_norm=True, raw=False),
        {"width": 4},
    ),
    "preact_wong": Network(
        "PreActResNet-18 of Wong et al.",
        "preact_resnet18",
        functools.partial(preact_resnet, last_norm=False, raw=True),
        {"width": 4, "final_norm": False, "raw_shortcut": True},
    ),
    "preact_pytorch_cifar": Network(
        "PreActResNet-18 of pytorch-cifar",
        "preact_resnet18",
        functools.partial(preact_resnet, last_norm=False, raw=False),
        {"width": 4, "final_norm": False, "raw_shortcut": False},
    ),
    "resnet_pytorch_cifar": Network("ResNet-18 of pytorch-cifar", "resnet18_cifar", resnet, {"width": 4}),
    "dm_wide_resnet_28": Network(
        "WideResNet-28 of Gowal et al.",
        "dm_wide_resnet_28_10",
        functools.partial(dm_wide_resnet, blocks=4, widening=2),
        {"widening": 2},
    ),
    "dm_wide_resnet_70": Network(
        "WideResNet-70 of Gowal et al.",
        "dm_wide_resnet_70_16",
        functools.partial(dm_wide_resnet, blocks=11, widening=1),
        {"widening": 1},
    ),
    "dm_preact_resnet": Network(
        "PreActResNet-18 of Rebuffi et al.", "dm_preact_resnet18", dm_preact_resnet, {"width": 4}
    ),
}


@functools.cache
def published(name: str) -> tuple[State, Tensor]:
    """The weights of a network, and its logits of `IMAGES`, which it normalises by `MEAN` and `STD`."""
    weights = Weights()
    with torch.no_grad():
        logits = NETWORKS[name].forward(weights, normalised(IMAGES))
    return dict(weights), logits


def normalised(images: Tensor) -> Tensor:
    """Images [N, 3, H, W] less `MEAN`, over `STD`."""
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
