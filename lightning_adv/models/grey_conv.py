"""Convolutions of one channel whose gradient to the image is a matrix product.

On a CPU, oneDNN takes several times as long for it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        products = _GreyConvolution.apply(image, self.weight, self.stride, self.padding, self.dilation)
        return products if self.bias is None else products + self.bias[:, None, None]


class _GreyConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        image: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> Tensor:
        return F.conv2d(image, weight, None, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple, output: Tensor) -> None:
        image, weight, *ctx.settings = inputs
        ctx.size = image.shape[2:]
        ctx.save_for_backward(image, weight)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple:
        image, weight = ctx.saved_tensors
        to_image = to_weight = None
        if ctx.needs_input_grad[0]:
            to_image = _to_image(grad, weight, ctx.size, *ctx.settings)
        if ctx.needs_input_grad[1]:
            to_weight = torch.nn.grad.conv2d_weight(image, weight.shape, grad, *ctx.settings)
        return to_image, to_weight, None, None, None


# An operator of its own, for torch.compile would take ``fold`` apart into slower code.
@torch.library.custom_op("lightning_adv::grey_conv_to_image", mutates_args=())
def _to_image(
    grad: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    patches = torch.matmul(weight.flatten(1).T, grad.flatten(2))
    return F.fold(patches, tuple(size), weight.shape[2:], tuple(dilation), tuple(padding), tuple(stride))


@_to_image.register_fake
def _(grad: Tensor, weight: Tensor, size: Sequence[int], *settings: Sequence[int]) -> Tensor:
    return grad.new_empty(grad.shape[0], 1, *size)
