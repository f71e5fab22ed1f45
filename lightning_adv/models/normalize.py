"""Normalisation as the first layer of a model, so that data, attacks and defences all speak in pixels of [0, 1].

z = (x - mean) / std
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError

__all__ = ["Normalize", "NormalizedModel", "Statistics", "normalize_by", "normalized", "statistics_of"]


@dataclass(frozen=True)
class Statistics:
    """Figures that images are normalised with, and who says so.

    Args:
        mean: of each channel in [0, 1].
        std: of each channel.
        origin: where they are from, in words.
        assumed: nobody said them of this network, as those of the data: they give way to whoever does.

    Example:
        >>> print(Statistics((0.5,), (0.25,), "the data"))
        mean [0.5], std [0.25] (from the data)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    assumed: bool = False

    def __str__(self) -> str:
        mean, std = ([round(value, 4) for value in each] for each in (self.mean, self.std))
        return f"mean {mean}, std {std} (from {self.origin})"


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation, channel by channel.

    The result has the dtype of the layer, and is rounded to it last: under autocast it is float32 and the next layer
    casts it, in a model converted to bfloat16 it is bfloat16. The two buffers are saved with the model's weights.

    Args:
        mean: one number a channel, in pixel units of [0, 1].
        std: one positive number a channel, same units.
        origin: where the two are from, in words.
        assumed: nobody said them of this network: weights that come with others bring theirs.

    Raises:
        InputError: if lengths differ, a number is not finite or a standard deviation is not positive.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], origin: str = "mean and std as given", assumed: bool = False
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) == 0:
            raise InputError(f"mean and std need one number a channel each, got mean={mean} and std={std}")
        if not all(abs(value) < float("inf") for value in [*mean, *std]) or min(std) <= 0:
            raise InputError(f"mean must be finite and std finite and positive, got mean={mean} and std={std}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.get_default_dtype()).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.get_default_dtype()).view(-1, 1, 1))
        self.origin, self.assumed = origin, assumed

    @property
    def statistics(self) -> Statistics:
        """The figures in force."""
        mean, std = (tuple(layer.flatten().tolist()) for layer in (self.mean, self.std))
        return Statistics(mean, std, self.origin, self.assumed)

    @statistics.setter
    def statistics(self, wanted: Statistics) -> None:
        for layer, values in ((self.mean, wanted.mean), (self.std, wanted.std)):
            layer.copy_(torch.tensor(values).view(-1, 1, 1))
        self.origin, self.assumed = wanted.origin, wanted.assumed

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] -> normalised [N, C, H, W].

        Raises:
            InputError: if the number of channels is another one.
        """
        if x.shape[-3] != self.mean.shape[0]:
            raise InputError(f"the model takes images of {self.mean.shape[0]} channels, got shape {tuple(x.shape)}")
        return ((x - self.mean) / self.std).to(self.mean.dtype)

    def extra_repr(self) -> str:
        """The figures, as they appear in ``print(model)``; left out on the meta device, where there are none."""
        if self.mean.is_meta:
            return f"channels={self.mean.shape[0]}"
        mean, std = (", ".join(f"{value:.4g}" for value in layer.flatten().tolist()) for layer in (self.mean, self.std))
        return f"mean=[{mean}], std=[{std}]"


class NormalizedModel(nn.Module):
    """``net`` behind ``normalize``: maps pixels of [0, 1] to logits.

    Args:
        normalize: the first layer.
        net: a classifier of normalised images; one from timm or from this package also serves the other methods here.
    """

    def __init__(self, normalize: Normalize, net: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, C, H, W] in [0, 1]."""
        return self.net(self.normalize(x))

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.net.num_classes

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature maps (or tokens) of ``net`` for images in [0, 1]."""
        return self.net.forward_features(self.normalize(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits from feature maps, or with ``pre_logits`` the last hidden layer."""
        return self.net.forward_head(x, pre_logits=pre_logits)

    def get_classifier(self) -> nn.Module:
        """The last layer of ``net``."""
        return self.net.get_classifier()

    def reset_classifier(self, num_classes: int) -> None:
        """Put a freshly initialised classifier of ``num_classes`` logits in place."""
        self.net.reset_classifier(num_classes)


def normalized(net: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> nn.Module:
    """A network of one's own behind a normalisation, where one is given; else as it is.

    Raises:
        InputError: only one of the two, or figures as `Normalize` refuses them.
    """
    if mean is None and std is None:
        return net
    return NormalizedModel(Normalize(mean or (), std or ()), net)


def normalize_by(statistics: Statistics | None, channels: int) -> Normalize:
    """The layer for some figures; for None, one that leaves images as they are.

    Raises:
        InputError: figures of another number of channels.
    """
    if statistics is None:
        return Normalize([0.0] * channels, [1.0] * channels, "nobody: images go in as they are", assumed=True)
    if not len(statistics.mean) == len(statistics.std) == channels:
        raise InputError(f"images have {channels} channels, which {statistics} does not fit")
    return Normalize(statistics.mean, statistics.std, statistics.origin, statistics.assumed)


def statistics_of(model: nn.Module) -> Statistics | None:
    """What a model, or a module that holds it, normalises its images with; None if no layer of it is a `Normalize`."""
    layer = next((each for each in model.modules() if isinstance(each, Normalize)), None)
    return None if layer is None else layer.statistics
