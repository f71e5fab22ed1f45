"""Small-image stems for networks that were drawn for ImageNet.

The stem of a ResNet (7x7 convolution with stride 2, then a pooling with stride 2) leaves 8 x 8 of a 32 x 32 image
before the first block. The CIFAR experiments of He et al. (2016) start with a 3x3 convolution of stride 1 instead.
"""

from torch import nn

__all__ = ["shrink_stem"]

# Where timm's ResNet, ResNetV2 and DenseNet families keep the pooling that ends their stem.
_POOLS = ("maxpool", "stem.pool", "features.pool0")


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
