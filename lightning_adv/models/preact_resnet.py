"""PreAct ResNet-18 for small images (He et al., Identity Mappings in Deep Residual Networks, 2016).

    x_{l+1} = shortcut(x_l) + conv( relu( bn( conv( relu( bn( x_l ) ) ) ) ) )

A 3x3 stem without pooling, stages of 64, 128, 256, 512 channels and a final bn + relu, as the paper asks for; the
network of most robustness papers on CIFAR-10 (11.17 M parameters).
"""

import torch
from torch import Tensor, nn

from lightning_adv.models.backbone import Backbone, global_average_pool, kaiming_init
from lightning_adv.models.registry import register

__all__ = ["PreActBlock", "preact_resnet18", "preact_stage"]


class PreActBlock(nn.Module):
    """Two pre-activated 3x3 convolutions and a shortcut: the identity, or a 1x1 convolution where the shape changes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut.
        drop_rate: dropout between the convolutions (Zagoruyko and Komodakis, 2016).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        activated = torch.relu(self.bn1(x))
        residual = self.conv1(activated)
        residual = self.conv2(self.dropout(torch.relu(self.bn2(residual))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


def preact_stage(in_channels: int, out_channels: int, *, blocks: int, stride: int, drop_rate: float) -> nn.Sequential:
    """``blocks`` pre-activated blocks of equal width, of which the first has ``stride``."""
    first = PreActBlock(in_channels, out_channels, stride=stride, drop_rate=drop_rate)
    rest = [PreActBlock(out_channels, out_channels, stride=1, drop_rate=drop_rate) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


@register
def preact_resnet18(
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    width: int = 64,
    drop_rate: float = 0.0,
) -> Backbone:
    """PreAct ResNet-18 with stages of 1, 2, 4, 8 times ``width`` channels, for images of any size.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        width: channels of the first stage: 64 in the paper; 16 trains on a CPU.
        drop_rate: dropout between the two convolutions of a block.
    """
    features = nn.Sequential(nn.Conv2d(in_chans, width, 3, padding=1, bias=False))
    channels = width
    for stage in range(4):
        out = width * 2**stage
        features.append(preact_stage(channels, out, blocks=2, stride=1 if stage == 0 else 2, drop_rate=drop_rate))
        channels = out
    features.extend([nn.BatchNorm2d(channels), nn.ReLU()])
    return Backbone(kaiming_init(features), global_average_pool(), num_features=channels, num_classes=num_classes)
