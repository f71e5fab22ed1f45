"""DenseNet-BC for small images (Huang et al., Densely Connected Convolutional Networks, 2017).

    x_{l+1} = [ x_l , conv3x3( relu( bn( conv1x1( relu( bn( x_l ) ) ) ) ) ) ]

Depth 100, growth 12: three blocks of 16 such layers, halved in width and size in between; 769,162 parameters.
"""

import torch
from torch import Tensor, nn

from lightning_adv.models.backbone import Backbone, global_average_pool, kaiming_init
from lightning_adv.models.registry import register

__all__ = ["densenet_cifar"]


class _DenseLayer(nn.Module):
    """Appends ``growth`` channels that are computed from all earlier ones."""

    def __init__(self, in_channels: int, growth: int, drop_rate: float) -> None:
        super().__init__()
        self.new_channels = nn.Sequential(
            nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            nn.Dropout(drop_rate),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new_channels(x)], dim=1)


@register
def densenet_cifar(
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    depth: int = 100,
    growth: int = 12,
    drop_rate: float = 0.0,
) -> Backbone:
    """DenseNet-BC with compression 1/2, for images of any size.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        depth: layers in all; three blocks of (depth - 4) // 6 bottlenecks.
        growth: channels that a layer adds.
        drop_rate: dropout after each 3x3 convolution (.2 in the paper for unaugmented data).
    """
    channels = 2 * growth
    features = nn.Sequential(nn.Conv2d(in_chans, channels, 3, padding=1, bias=False))
    for block in range(3):
        if block > 0:
            halved = channels // 2
            features.extend([nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, halved, 1, bias=False)])
            features.append(nn.AvgPool2d(2))
            channels = halved
        for _ in range((depth - 4) // 6):
            features.append(_DenseLayer(channels, growth, drop_rate))
            channels += growth
    features.extend([nn.BatchNorm2d(channels), nn.ReLU()])
    return Backbone(kaiming_init(features), global_average_pool(), num_features=channels, num_classes=num_classes)
