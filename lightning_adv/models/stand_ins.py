"""Convolutions that compute what ``nn.Conv2d`` does by another way, and take its place in a network."""

from typing import Self

from torch import Tensor, nn

__all__ = ["ConvStandIn", "StridedConv2d", "put_in"]

LANES = 16
"""Numbers in the widest vector of a CPU."""


class ConvStandIn(nn.Conv2d):
    """Base of those that share weights, names and printed form with the convolution whose place they take."""

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """Whether a module is a convolution that this can take the place of."""
        return type(module) is nn.Conv2d

    @classmethod
    def of(cls, module: nn.Conv2d) -> Self:
        """The same weights, under the same names and shared with ``module``."""
        made = cls.__new__(cls)
        made.__dict__ = module.__dict__
        return made

    def _get_name(self) -> str:
        return "Conv2d"  # it is one: a model's printed structure stays what it was


class StridedConv2d(ConvStandIn):
    """``nn.Conv2d`` of one pixel with a stride, of few channels, over the pixels that it looks at alone.

    Where images lie with their channels last, as ``torch.compile`` lays them on a CPU, and have fewer channels than a
    vector has numbers, oneDNN's gradient to the weights of such a convolution writes past the end of its buffer. That
    ends the process, there or later. Without a stride it does not.

    Example:
        >>> import torch
        >>> plain = nn.Conv2d(2, 4, 1, stride=2)
        >>> x = torch.rand(2, 2, 5, 6)
        >>> torch.allclose(StridedConv2d.of(plain)(x), plain(x), atol=1e-6)
        True
    """

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """Whether a module is such a convolution."""
        if not super().fits(module) or module.kernel_size != (1, 1) or max(module.stride) == 1:
            return False
        return module.padding in ((0, 0), "valid") and module.groups == 1 and module.in_channels < LANES

    def forward(self, image: Tensor) -> Tensor:
        """[N, O, H', W'] of images [N, C, H, W]."""
        down, right = self.stride
        return nn.functional.conv2d(image[..., ::down, ::right], self.weight, self.bias)


def put_in(model: nn.Module, *kinds: type[ConvStandIn]) -> None:
    """Let the first of these kinds that fits take the place of each convolution inside a module."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            kind = next((each for each in kinds if each.fits(child)), None)
            if kind is not None:
                setattr(parent, name, kind.of(child))
