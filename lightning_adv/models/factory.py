"""One factory for every backbone: the project's own networks and all of timm's, from pixels of [0, 1] to logits."""

import difflib
import inspect
from collections.abc import Mapping, Sequence

import timm
import torch
from timm.layers import PatchEmbed
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from lightning_adv.errors import InputError

# Importing an architecture registers it with timm.
from lightning_adv.models import (  # noqa: F401
    convnet12,
    deepid,
    densenet,
    dm_preact_resnet,
    dm_wide_resnet,
    gtsrb_cnn,
    lenet,
    mnist_cnn,
    preact_resnet,
    resnet_cifar,
    wide_resnet,
)
from lightning_adv.models.normalize import NormalizedModel, Statistics, normalize_by
from lightning_adv.models.registry import own_models
from lightning_adv.models.stand_ins import StridedConv2d, put_in
from lightning_adv.models.stem import put_conv_stem, shrink_stem

__all__ = ["check_forward", "create_model", "list_models"]

SMALL_IMAGE = 64  # pixels; up to this size an ImageNet stem throws most of the image away
_OF_FILES = ("cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")
_SET_BY_THE_DATA = {"num_classes": "num_classes", "in_chans": "in_channels", "img_size": "image_size"}


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    statistics: Statistics | None = None,
    pretrained: bool = False,
    small_image_stem: bool | None = None,
    backbone_options: Mapping[str, int | float | bool | str] | None = None,
) -> NormalizedModel:
    """A backbone with its normalisation: images ``[N, in_channels, *image_size]`` in [0, 1] -> logits [N, num_classes].

    Before it is returned, the model is run once on a black image, which leaves the global random state alone.

    Args:
        name: one of `list_models()` or any model of timm, with or without the tag of its weights.
        num_classes: number of logits, at least 2.
        in_channels: channels of the images.
        image_size: height and width in pixels; handed to every model that is built for one size (vision transformers).
        mean: of the images that the network was trained with, a channel each; takes precedence over all others.
        std: of the same images, a channel each.
        statistics: figures where ``mean`` and ``std`` are not given. Assumed ones give way to those of the weights that
            are fetched or that the tag in the name speaks of; without any, the mean is 0 and the standard deviation 1.
        pretrained: fetch timm's weights.
        small_image_stem: replace a stem with stride 4 by a 3x3 convolution of stride 1 (see `stem.shrink_stem`).
            By default where that is possible, the shorter side is at most 64 pixels and no weights are fetched.
        backbone_options: further options of the network, such as `{"width": 16}`, `{"drop_path_rate": 0.1}` or, for a
            vision transformer on small images, `{"patch_size": 4}`. `{"conv_stem": True}` puts convolutions in the
            place of the patches of a ConvNeXt or a vision transformer (see `stem.put_conv_stem`).

    Raises:
        InputError: for a name or an option that does not exist, an image size that the network cannot take, weights
            that cannot be fetched.
    """
    _check_name(name)
    _check_numbers(num_classes, in_channels, image_size)
    chosen = dict(backbone_options or {})
    convolutions = chosen.pop("conv_stem", False)
    options = _options(name, num_classes, in_channels, image_size, chosen)
    try:
        net = timm.create_model(name, pretrained=pretrained, **options)
    except InputError:
        raise
    except Exception as error:  # a constructor of timm's may raise anything; each means that these options do not fit
        raise InputError(
            f"cannot build {name} for {_images(in_channels, image_size)} with {options}"
            f"{' and pretrained weights' if pretrained else ''}: {_reason(error)}"
        ) from error
    _check_patches(name, net, image_size)
    if convolutions and not put_conv_stem(net):
        raise InputError(
            f"conv_stem: {name} is no ConvNeXt with patches of 4 x 4, nor a ViT with ones of 16 x 16 pixels"
        )
    _adapt_stem(name, net, small_image_stem, automatic=min(image_size) <= SMALL_IMAGE and not pretrained)
    if mean is not None or std is not None:
        statistics = _given(in_channels, mean, std)
    elif (pretrained or "." in name) and (statistics is None or statistics.assumed):
        statistics = _trained(name, net, in_channels)
    put_in(net, StridedConv2d)
    model = NormalizedModel(normalize_by(statistics, in_channels), net)
    check_forward(name, model, num_classes, in_channels, image_size)
    return model


def list_models() -> list[str]:
    """Names of the project's own networks, sorted; `timm.list_models()` gives them and all the others."""
    return sorted(own_models())


def _images(in_channels: int, image_size: tuple[int, int]) -> str:
    return f"images of {in_channels} x {image_size[0]} x {image_size[1]}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__  # a bare assertion has no text


def _check_name(name: str) -> None:
    if timm.is_model(name):
        architecture, _, tag = name.partition(".")
        if tag and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
            raise InputError(f"{architecture} has no weights called {tag!r}: timm has {', '.join(tagged) or 'none'}")
        return
    root, dot, _ = name.partition(".")
    if dot and not timm.is_model(root):
        raise InputError(
            f"no backbone is called {name!r}; a class of your own is given as --model.backbone={name} where Python "
            f"finds the package {root!r} (PYTHONPATH=FOLDER), in a configuration as backbone: {{class_path: {name}}}"
        )
    close = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)  # the project's own among them
    meant = f"did you mean {', '.join(close)}?" if close else f"own networks: {', '.join(list_models())}"
    raise InputError(f"no backbone is called {name!r}: {meant} timm.list_models() lists all names")


def _check_numbers(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
    if num_classes < 2:
        raise InputError(f"num_classes must be at least 2, got {num_classes}")
    if in_channels < 1 or len(image_size) != 2 or min(image_size) < 1:
        raise InputError(f"in_channels and both sides of image_size must be positive, got {in_channels}, {image_size}")


def _options(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    chosen: Mapping[str, int | float | bool | str],
) -> dict[str, object]:
    for option, argument in _SET_BY_THE_DATA.items():
        if option in chosen:
            raise InputError(f"backbone_options must not hold {option}: it is the argument {argument} of create_model")
    for option in _OF_FILES:  # timm reads and writes what they name; the options may come from a stranger's checkpoint
        if option in chosen:
            raise InputError(
                f"backbone_options must not hold {option}: they say how the network is built; for weights "
                "of a file there is load_weights, which is --model.weights=FILE on the command line"
            )
    options: dict[str, object] = {"num_classes": num_classes, "in_chans": in_channels, **chosen}
    if _built_for_one_size(name):
        options["img_size"] = tuple(image_size)
    return options


def _built_for_one_size(name: str) -> bool:
    own = own_models().get(name)
    if own is not None:
        return "img_size" in inspect.signature(own).parameters
    cfg = get_pretrained_cfg(name)
    return cfg is not None and cfg.fixed_input_size


def _check_patches(name: str, net: nn.Module, image_size: tuple[int, int]) -> None:
    """Patches that do not tile the image would leave its last rows and columns out, without a word."""
    embedding = next((module for module in net.modules() if isinstance(module, PatchEmbed)), None)
    if embedding is None or embedding.dynamic_img_pad:
        return
    if any(side % patch for side, patch in zip(image_size, embedding.patch_size, strict=True)):
        raise InputError(
            f"{name} cuts images into patches of {embedding.patch_size} pixels, which do not tile {tuple(image_size)}; "
            "give backbone_options a patch_size that divides both sides, or resize the images"
        )


def _adapt_stem(name: str, net: nn.Module, wanted: bool | None, *, automatic: bool) -> None:
    attempt = automatic if wanted is None else wanted
    if attempt and not shrink_stem(net) and wanted:
        raise InputError(
            f"small_image_stem: {name} has no stem of a convolution and a max pooling with stride 2 each; "
            "leave the option out"
        )


def _given(in_channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> Statistics:
    if mean is None or std is None or not len(mean) == len(std) == in_channels:
        raise InputError(f"mean and std need {in_channels} numbers each (in_channels), got mean={mean} and std={std}")
    return Statistics(tuple(mean), tuple(std), "mean and std as given")


def _trained(name: str, net: nn.Module, in_channels: int) -> Statistics:
    """What timm says that the weights of this name were trained with."""
    mean, std = (tuple(_per_channel(net.pretrained_cfg[key], in_channels)) for key in ("mean", "std"))
    return Statistics(mean, std, f"timm's configuration of {name}")


def _per_channel(values: Sequence[float], in_channels: int) -> list[float]:
    """The figures as they are, or their average for each channel where their number is another one."""
    return list(values) if len(values) == in_channels else [sum(values) / len(values)] * in_channels


def check_forward(
    name: str, model: NormalizedModel, num_classes: int, in_channels: int, image_size: tuple[int, int]
) -> None:
    """Refuse a network that does not answer images of this size with a row of logits; tried on a black one.

    Args:
        name: of the network, for the message.
        model: from images in [0, 1] to logits; left in training mode.
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: height and width of the images.

    Raises:
        InputError: what it answers, or why it cannot.
    """
    black = torch.zeros(1, in_channels, *image_size, device=next(model.parameters(), torch.empty(0)).device)
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = model(black)
    except Exception as error:  # as above: whatever a network of timm's raises, the size does not suit it
        raise InputError(f"{name} cannot take {_images(in_channels, image_size)}: {_reason(error)}") from error
    model.train()
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{name} is no classifier of images: one image gives {got}, not logits (1, {num_classes})")
