"""A network that neither this project nor timm knows."""

from torch import Tensor, nn

__all__ = ["Net", "lazy_net", "make_net"]


class Net(nn.Module):
    """A convolution and a linear layer for images of one channel."""

    def __init__(self, width: int = 4, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images [N, 1, H, W]."""
        return self.head(self.layers(x))


def make_net(width: int = 4) -> nn.Module:
    """The same by a function."""
    return Net(width)


def lazy_net() -> nn.Module:
    """One whose weights take their shape from the first images."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
