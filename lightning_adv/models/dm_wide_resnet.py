"""Wide residual networks as Gowal et al. (Uncovering the Limits of Adversarial Training, 2020) train them.

The blocks are those of Zagoruyko and Komodakis (2016) with the smooth activation SiLU(x) = x * sigmoid(x) and
TensorFlow's padding: a 3x3 convolution of stride 2 pads below and to the right alone. Rebuffi et al. (2021) and
Wang et al. (2023) publish their weights for the same networks.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.models.backbone import Backbone, residual_backbone
from lightning_adv.models.registry import register

__all__ = ["MOMENTUM", "DMWideBlock", "dm_wide_resnet_28_10", "dm_wide_resnet_70_16", "pad_same"]

MOMENTUM = 0.01  # of their BatchNorm: Haiku's decay of .99


def pad_same(x: Tensor, stride: int) -> Tensor:
    """``x`` with the zeros that TensorFlow's "SAME" puts around it for a 3x3 convolution of stride 1 or 2."""
    top, left = (1 if stride == 1 or side % 2 else 0 for side in x.shape[-2:])
    return F.pad(x, (left, 1, top, 1))


class DMWideBlock(nn.Module):
    """Two pre-activated 3x3 convolutions and a shortcut: the identity, or a 1x1 convolution of the activated input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; the shortcut is a convolution if they are others than ``in_channels``.
        stride: of the first convolution and of the shortcut, 1 or 2.
        drop_rate: dropout between the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.stride = stride
        # Other names than in the blocks of `preact_resnet`, where weights of equal shapes would give wrong answers.
        self.batchnorm_0 = nn.BatchNorm2d(in_channels, momentum=MOMENTUM)
        self.conv_0 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(out_channels, momentum=MOMENTUM)
        self.dropout = nn.Dropout(drop_rate)
        self.conv_1 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = self.shortcut_of(in_channels, out_channels, stride)

    def shortcut_of(self, in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
        """A 1x1 convolution of the activated input."""
        return None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, h, w], half the sides for stride 2."""
        activated = F.silu(self.batchnorm_0(x))
        residual = self.conv_0(pad_same(activated, self.stride))
        residual = self.conv_1(self.dropout(F.silu(self.batchnorm_1(residual))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


@register
def dm_wide_resnet_28_10(
    *, num_classes: int = 10, in_chans: int = 3, widening: int = 10, drop_rate: float = 0.0
) -> Backbone:
    """WRN-28-10 with SiLU and "SAME" padding (36.5 M parameters).

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        widening: channels of the first stage in units of 16.
        drop_rate: dropout between the two convolutions of a block.
    """
    return _dm_wide_resnet(28, widening, num_classes, in_chans, drop_rate)


@register
def dm_wide_resnet_70_16(
    *, num_classes: int = 10, in_chans: int = 3, widening: int = 16, drop_rate: float = 0.0
) -> Backbone:
    """WRN-70-16 with SiLU and "SAME" padding (266.8 M parameters).

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        widening: channels of the first stage in units of 16.
        drop_rate: dropout between the two convolutions of a block.
    """
    return _dm_wide_resnet(70, widening, num_classes, in_chans, drop_rate)


def _dm_wide_resnet(depth: int, widening: int, num_classes: int, in_chans: int, drop_rate: float) -> Backbone:
    widths = (16, *(16 * widening * 2**stage for stage in range(3)))
    stem = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
    end, block = (nn.BatchNorm2d(widths[-1], momentum=MOMENTUM), nn.SiLU()), partial(DMWideBlock, drop_rate=drop_rate)
    return residual_backbone([stem], block, widths, (depth - 4) // 6, end, num_classes)
