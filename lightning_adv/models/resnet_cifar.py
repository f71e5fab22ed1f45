"""ResNet-18 for small images (He et al., Deep Residual Learning for Image Recognition, 2016).

    x_{l+1} = relu( shortcut(x_l) + bn( conv( relu( bn( conv( x_l ) ) ) ) ) )

The paper's ResNet-18 with the 3x3 stem of its CIFAR networks: no pooling before the stages of 64, 128, 256, 512
channels (11.17 M parameters). Many papers on CIFAR-10 publish weights of this network.
"""

from functools import partial

import torch
from torch import Tensor, nn

from lightning_adv.models.backbone import Backbone, residual_backbone
from lightning_adv.models.registry import register

__all__ = ["PostActBlock", "resnet18_cifar"]


class PostActBlock(nn.Module):
    """Two 3x3 convolutions, each normalised, and a shortcut: the identity, or a normalised 1x1 convolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut.
        drop_rate: dropout between the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        residual = torch.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(self.dropout(residual)))
        return torch.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


@register
def resnet18_cifar(*, num_classes: int = 10, in_chans: int = 3, width: int = 64, drop_rate: float = 0.0) -> Backbone:
    """ResNet-18 with stages of 1, 2, 4, 8 times ``width`` channels, for images of any size.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        width: channels of the first stage: 64 in the paper; 16 trains on a CPU.
        drop_rate: dropout between the two convolutions of a block.
    """
    widths = (width, *(width * 2**stage for stage in range(4)))
    stem = nn.Conv2d(in_chans, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    return residual_backbone(stem, partial(PostActBlock, drop_rate=drop_rate), widths, 2, (), num_classes)
