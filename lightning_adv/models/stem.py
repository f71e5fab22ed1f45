"""Stems: small-image ones for networks that were drawn for ImageNet, and convolutions in place of patches.

The stem of a ResNet (7x7 convolution with stride 2, then a pooling with stride 2) leaves 8 x 8 of a 32 x 32 image
before the first block. The CIFAR experiments of He et al. (2016) start with a 3x3 convolution of stride 1 instead.

ConvNeXts and vision transformers cut the image into patches. With several convolutions in their place they become more
robust under the same adversarial training (Singh, Croce and Hein, 2023).
"""

from collections import OrderedDict
from collections.abc import Sequence

from timm.layers import LayerNorm2d, PatchEmbed
from timm.models import ConvNeXt, VisionTransformer
from torch import nn

__all__ = ["put_conv_stem", "shrink_stem"]

# Where timm's ResNet, ResNetV2 and DenseNet families keep the pooling that ends their stem.
_POOLS = ("maxpool", "stem.pool", "features.pool0")

_VIT_WIDTHS = (48, 96, 192, 384)
"""Channels of the convolutions in place of patches of 16 x 16 pixels, for every width of the transformer."""

_TWO_HALVINGS = 96
"""Channels of a ConvNeXt up to which two convolutions halve its sides; above, a third one of stride 1 follows."""


def shrink_stem(net: nn.Module) -> bool:
    """Make the stem of a timm network keep the resolution of its input, in place; tell whether it could be done.

    Only a stem of a plain convolution with stride 2 and a max pooling is touched (ResNet, ResNeXt, SE-, ECA-, Wide and
    Res2Net, ResNetV2, DenseNet); any other network is left as it is. A convolution larger than 3x3 is replaced by a
    freshly initialised 3x3 one, a 3x3 one keeps its weights; the pooling becomes the identity.
    """
    name = getattr(net, "pretrained_cfg", {}).get("first_conv")  # networks of timm have it, others come here too
    modules = dict(net.named_modules())
    conv = modules.get(name) if isinstance(name, str) else None
    pool = next((pool for pool in _POOLS if _is_max_pool(modules.get(pool))), None)
    # Subclasses (weight standardisation, "same" padding) carry geometry of their own: not to be guessed at.
    if pool is None or type(conv) is not nn.Conv2d or conv.stride != (2, 2):
        return False
    net.set_submodule(name, _stride_one(conv))
    net.set_submodule(pool, nn.Identity())
    return True


def put_conv_stem(net: nn.Module) -> bool:
    """Put convolutions in the place of the patches of a timm network, in place; tell whether it could be done.

    Only ConvNeXts with patches of 4 x 4 and vision transformers with patches of 16 x 16 pixels are touched. The
    convolutions are freshly initialised, also where the rest has fetched weights; each but the last is followed by a
    LayerNorm and a GELU. Names of the weights are those of RobustBench's ConvStem models.
    """
    if isinstance(net, ConvNeXt) and isinstance(net.stem[0], nn.Conv2d) and net.stem[0].stride == (4, 4):
        first, width = net.stem[0], net.stem[0].out_channels
        widths = (width // 2, width) if width <= _TWO_HALVINGS else (width // 2, width * 3 // 4, width)
        net.stem = _stem(first, [2, 2, 1], widths)
        return True
    patches = net.patch_embed if isinstance(net, VisionTransformer) else None
    if not isinstance(patches, PatchEmbed) or patches.patch_size != (16, 16):
        return False
    stem = _stem(patches.proj, [2] * len(_VIT_WIDTHS), _VIT_WIDTHS)
    stem.stem.append(nn.Conv2d(_VIT_WIDTHS[-1], patches.proj.out_channels, 1).to(patches.proj.weight))
    patches.proj = stem
    return True


def _stem(first: nn.Conv2d, strides: Sequence[int], widths: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions, on the device of the one whose place they take."""
    layers: list[nn.Module] = []
    for channels, out, stride in zip((first.in_channels, *widths), widths, strides, strict=False):
        layers += [nn.Conv2d(channels, out, 3, stride=stride, padding=1), LayerNorm2d(out), nn.GELU()]
    return nn.Sequential(OrderedDict(stem=nn.Sequential(*layers))).to(first.weight)


def _is_max_pool(module: nn.Module | None) -> bool:
    return module is not None and any(isinstance(part, nn.MaxPool2d) for part in module.modules())


def _stride_one(conv: nn.Conv2d) -> nn.Conv2d:
    small = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        3,
        padding=1,
        groups=conv.groups,
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    if conv.kernel_size == (3, 3):
        small.load_state_dict(conv.state_dict())
    else:
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    return small
