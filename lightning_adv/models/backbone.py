"""The shape that the project's own networks share: feature maps, a last hidden layer, a linear classifier."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError

__all__ = ["Backbone", "ImageSize", "flat_features", "global_average_pool", "kaiming_init", "residual_backbone"]

ImageSize = int | tuple[int, int]


class Backbone(nn.Module):
    """A classifier in three parts, with the method names of timm's models.

    No part works in place, so forward hooks see every activation as it was computed.

    Args:
        features: images [N, C, H, W] -> feature maps [N, F, h, w].
        penultimate: feature maps -> last hidden layer [N, num_features].
        num_features: width of the last hidden layer.
        num_classes: number of logits; 0 leaves the classifier out.
    """

    def __init__(self, features: nn.Module, penultimate: nn.Module, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.penultimate = penultimate
        self.num_features = num_features
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature maps [N, F, h, w] of images [N, C, H, W]."""
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [N, num_classes] from feature maps, or with ``pre_logits`` the last hidden layer [N, num_features]."""
        hidden = self.penultimate(x)
        return hidden if pre_logits else self.fc(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, C, H, W]."""
        return self.forward_head(self.forward_features(x))

    def group_matcher(self, coarse: bool = False) -> dict[str, str | list[tuple[str, None]]]:
        """Which weights are of one layer, as timm asks for it: modules of ``features``, or blocks of its stages."""
        stages = r"^features\.(\d+)\."
        return {"features": stages if coarse else [(r"^features\.(\d+)\.(\d+)\.", None), (stages, None)]}

    def get_classifier(self) -> nn.Module:
        """The last linear layer; an identity when ``num_classes`` is 0."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Put a freshly initialised classifier of ``num_classes`` logits in place (0: none)."""
        like = next(self.features.parameters())
        self.num_classes = num_classes
        self.fc = nn.Identity()
        if num_classes > 0:
            self.fc = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)


def flat_features(features: nn.Module, *, in_chans: int, img_size: ImageSize) -> int:
    """Length of the flattened output of ``features`` for one image; worked out on the meta device.

    Raises:
        InputError: if images of that size vanish on the way.
    """
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    image = torch.empty(1, in_chans, height, width, device="meta", dtype=next(features.parameters()).dtype)
    try:
        return copy.deepcopy(features).to("meta").eval()(image).numel()
    except RuntimeError as error:
        raise InputError(f"images of {height} x {width} pixels are too small: {error}") from error


def global_average_pool() -> nn.Module:
    """[N, F, h, w] -> [N, F], the mean over all positions: makes a network independent of the image size."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def kaiming_init(features: nn.Module) -> nn.Module:
    """Initialise convolutions as He et al. (2015), fan-out for ReLU; returns ``features``."""
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return features


def residual_backbone(
    stem: Sequence[nn.Module],
    block: Callable[..., nn.Module],
    widths: Sequence[int],
    blocks: int,
    end: Sequence[nn.Module],
    num_classes: int,
) -> Backbone:
    """A stem, stages of residual blocks, of which every one but the first halves the sides, and a mean over positions.

    Args:
        stem: modules that images go through first.
        block: makes a block of (channels of the input, channels of the output, stride=...).
        widths: channels of the stem and of each stage.
        blocks: of a stage.
        end: modules behind the last stage.
        num_classes: number of logits.
    """
    features = nn.Sequential(*stem)
    for stage, (channels, out) in enumerate(pairwise(widths)):
        first = block(channels, out, stride=1 if stage == 0 else 2)
        features.append(nn.Sequential(first, *(block(out, out, stride=1) for _ in range(blocks - 1))))
    features.extend(end)
    return Backbone(kaiming_init(features), global_average_pool(), num_features=widths[-1], num_classes=num_classes)
