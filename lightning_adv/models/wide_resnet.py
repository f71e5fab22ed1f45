"""Wide residual networks (Zagoruyko and Komodakis, 2016): WRN-28-10 and WRN-34-10 for small images.

A 3x3 stem of 16 channels and three stages of (depth - 4) / 6 pre-activated blocks with 160, 320, 640 channels; 36.5 M
and 46.2 M parameters. The second is the large network of Madry et al. (2018) and TRADES (Zhang et al., 2019).
"""

from functools import partial

from torch import nn

from lightning_adv.models.backbone import Backbone, residual_backbone
from lightning_adv.models.preact_resnet import PreActBlock
from lightning_adv.models.registry import register

__all__ = ["wide_resnet28_10", "wide_resnet34_10"]


@register
def wide_resnet28_10(
    *, num_classes: int = 10, in_chans: int = 3, widening: int = 10, drop_rate: float = 0.0
) -> Backbone:
    """WRN-28-10 for images of any size.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        widening: channels of the first stage in units of 16.
        drop_rate: dropout between the two convolutions of a block (.3 in the paper's dropout variant).
    """
    return _wide_resnet(28, widening, num_classes, in_chans, drop_rate)


@register
def wide_resnet34_10(
    *, num_classes: int = 10, in_chans: int = 3, widening: int = 10, drop_rate: float = 0.0
) -> Backbone:
    """WRN-34-10 for images of any size.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        widening: channels of the first stage in units of 16.
        drop_rate: dropout between the two convolutions of a block.
    """
    return _wide_resnet(34, widening, num_classes, in_chans, drop_rate)


def _wide_resnet(depth: int, widening: int, num_classes: int, in_chans: int, drop_rate: float) -> Backbone:
    widths = (16, *(16 * widening * 2**stage for stage in range(3)))
    stem = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
    end, block = (nn.BatchNorm2d(widths[-1]), nn.ReLU()), partial(PreActBlock, drop_rate=drop_rate)
    return residual_backbone([stem], block, widths, (depth - 4) // 6, end, num_classes)
