"""PreAct ResNet-18 for small images (He et al., Identity Mappings in Deep Residual Networks, 2016).

    x_{l+1} = shortcut(x_l) + conv( relu( bn( conv( relu( bn( x_l ) ) ) ) ) )

A 3x3 stem without pooling, stages of 64, 128, 256, 512 channels and a final bn + relu, as the paper asks for; the
network of most robustness papers on CIFAR-10 (11.17 M parameters). Not all of them build the same: some leave the last
bn + relu out, and of those some feed their shortcuts with x_l as it comes and not with relu(bn(x_l)).
"""

from functools import partial

import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models.backbone import Backbone, residual_backbone
from lightning_adv.models.registry import register

__all__ = ["PreActBlock", "preact_resnet18"]


class PreActBlock(nn.Module):
    """Two pre-activated 3x3 convolutions and a shortcut: the identity, or a 1x1 convolution where the shape changes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut.
        drop_rate: dropout between the convolutions (Zagoruyko and Komodakis, 2016).
        raw_shortcut: the convolution of the shortcut takes the input as it comes, not activated.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, drop_rate: float = 0.0, raw_shortcut: bool = False
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        # Two names, because weights trained for the one give wrong answers in the other, without a word.
        self.shortcut = self.raw_shortcut = None
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut, self.raw_shortcut = (None, conv) if raw_shortcut else (conv, None)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        activated = torch.relu(self.bn1(x))
        residual = self.conv1(activated)
        residual = self.conv2(self.dropout(torch.relu(self.bn2(residual))))
        if self.raw_shortcut is not None:
            return residual + self.raw_shortcut(x)
        return residual + (x if self.shortcut is None else self.shortcut(activated))


@register
def preact_resnet18(
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    width: int = 64,
    drop_rate: float = 0.0,
    final_norm: bool = True,
    raw_shortcut: bool | None = None,
) -> Backbone:
    """PreAct ResNet-18 with stages of 1, 2, 4, 8 times ``width`` channels, for images of any size.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        width: channels of the first stage: 64 in the paper; 16 trains on a CPU.
        drop_rate: dropout between the two convolutions of a block.
        final_norm: end in bn + relu, as in the paper and in Rice et al. (2020); without, as in Wong et al. (2020).
        raw_shortcut: the shortcuts take their input as it comes, not activated; by default not. Must be given without
            ``final_norm``, where both are in use under the same names of weights: true for Wong et al. (2020) and the
            networks of RobustBench, false for the widespread pytorch-cifar.

    Raises:
        InputError: without ``final_norm``, if ``raw_shortcut`` is not given.
    """
    if not final_norm and raw_shortcut is None:
        raise InputError(
            "without final_norm, two networks share the names of their weights: give raw_shortcut, true for those of "
            "Wong et al. and RobustBench, false for those of pytorch-cifar"
        )
    widths = (width, *(width * 2**stage for stage in range(4)))
    stem = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
    end = (nn.BatchNorm2d(widths[-1]), nn.ReLU()) if final_norm else ()
    block = partial(PreActBlock, drop_rate=drop_rate, raw_shortcut=bool(raw_shortcut))
    return residual_backbone([stem], block, widths, 2, end, num_classes)
