"""Convolutions of one channel whose gradient to the image is a matrix product.

On a CPU, oneDNN takes several times as long for it.
"""

import torch
from torch import Tensor, nn

from lightning_adv.asking import convolved
from lightning_adv.models.stand_ins import ConvStandIn

__all__ = ["GreyConv2d"]


class GreyConv2d(ConvStandIn):
    """``nn.Conv2d`` of one input channel, backward by weights times gradients on a CPU; elsewhere as ever.

    Example:
        >>> plain = nn.Conv2d(1, 4, 3, padding=1)
        >>> x = torch.rand(2, 1, 6, 6)
        >>> torch.allclose(GreyConv2d.of(plain)(x), plain(x), atol=1e-6)
        True
    """

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """Whether a module is a convolution that this can take the place of."""
        plain = super().fits(module) and module.in_channels == 1 and module.padding_mode == "zeros"
        return plain and not isinstance(module.padding, str)

    def forward(self, image: Tensor) -> Tensor:
        """[N, O, H', W'] of images [N, 1, H, W]."""
        if image.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(image)
        products = convolved(image, self.weight, None, self.stride, self.padding, self.dilation)
        return products if self.bias is None else products + self.bias[:, None, None]
