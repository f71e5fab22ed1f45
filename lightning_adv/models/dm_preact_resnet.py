"""PreAct ResNet-18 as Rebuffi et al. (Data Augmentation Can Improve Robustness, 2021) train it: SiLU, "SAME" padding.

    x_{l+1} = shortcut(x_l) + conv( silu( bn( conv( silu( bn( x_l ) ) ) ) ) )

Beside activation and padding, the shortcuts differ from those of He et al. (2016): where the shape changes they are 3x3
convolutions, and of the input as it comes, not of the activated one.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.models.backbone import Backbone, residual_backbone
from lightning_adv.models.dm_wide_resnet import MOMENTUM, DMWideBlock, pad_same
from lightning_adv.models.registry import register

__all__ = ["DMPreActBlock", "dm_preact_resnet18"]


class DMPreActBlock(DMWideBlock):
    """Two pre-activated 3x3 convolutions and a shortcut: the identity, or a 3x3 convolution where the shape changes."""

    def shortcut_of(self, in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
        """A 3x3 convolution of the input as it comes."""
        same = stride == 1 and in_channels == out_channels
        return None if same else nn.Conv2d(in_channels, out_channels, 3, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, h, w], half the sides for stride 2."""
        residual = self.conv_0(pad_same(F.silu(self.batchnorm_0(x)), self.stride))
        residual = self.conv_1(self.dropout(F.silu(self.batchnorm_1(residual))))
        return residual + (x if self.shortcut is None else self.shortcut(pad_same(x, self.stride)))


@register
def dm_preact_resnet18(
    *, num_classes: int = 10, in_chans: int = 3, width: int = 64, drop_rate: float = 0.0
) -> Backbone:
    """PreAct ResNet-18 with SiLU, "SAME" padding and stages of 1, 2, 4, 8 times ``width`` channels.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        width: channels of the first stage: 64 in the paper.
        drop_rate: dropout between the two convolutions of a block.
    """
    widths = (width, *(width * 2**stage for stage in range(4)))
    stem = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
    end = nn.BatchNorm2d(widths[-1], momentum=MOMENTUM), nn.SiLU()
    return residual_backbone([stem], partial(DMPreActBlock, drop_rate=drop_rate), widths, 2, end, num_classes)
