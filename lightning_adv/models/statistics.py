"""What a file of weights says of the images that its network was trained with: their mean and standard deviation.

Such figures stand there under any name. Those that say what they are are taken; a tensor of a number for each channel
that belongs to no layer may be one, and is never passed over in silence.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models.normalize import Normalize, Statistics

__all__ = ["find_statistics", "role_of", "settle_statistics", "travelling_statistics"]

_ROLES = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}
_OF_255 = 2.0  # a larger mean or deviation is of pixels of 0 to 255


def role_of(key: str) -> str | None:
    """ "mean" or "std" if the last part of a name says so, as "mu", "pixel_mean" and "normalizer.std" do.

    Example:
        >>> role_of("data.pixel_mean"), role_of("bn1.running_mean")
        ('mean', None)
    """
    words = re.split(r"[^a-z]+", key.rpartition(".")[2].lower())
    roles = {_ROLES[word] for word in words if word in _ROLES}
    return roles.pop() if len(roles) == 1 and "running" not in words else None


def find_statistics(strays: Mapping[str, Tensor], channels: int, path: Path) -> tuple[Statistics | None, list[str]]:
    """The statistics among entries of a file that belong to no layer, and the names of those that may be some.

    Args:
        strays: the entries by name.
        channels: of the images.
        path: of the file.
    """
    suspects = {key: each for key, each in strays.items() if each.is_floating_point() and _fits(key, each, channels)}
    found: dict[str, tuple[float, ...]] = {}
    for role in ("mean", "std"):
        values = {tuple(each.expand(channels).tolist()) for _, each in _of(role, suspects, channels)}
        if len(values) != 1:
            return None, [key for key, each in suspects.items() if each.numel() == channels and each.dim()]
        found[role] = values.pop()
    scale = 255 if max(found["mean"]) > _OF_255 or max(found["std"]) > _OF_255 else 1
    mean, std = (tuple(value / scale for value in found[role]) for role in ("mean", "std"))
    named = ", ".join(key for key in suspects if role_of(key))
    return Statistics(mean, std, f"{path.name}: {named}{' divided by 255' if scale > 1 else ''}"), list(suspects)


def settle_statistics(layer: Normalize, found: Statistics) -> Statistics:
    """Which hold for a model whose weights come from a file: those of the file, if the model's were not given.

    Raises:
        InputError: the model's were given, and are others.
    """
    pairs = zip((*found.mean, *found.std), (*layer.statistics.mean, *layer.statistics.std), strict=True)
    if not layer.assumed and any(abs(theirs - ours) > 0.002 for theirs, ours in pairs):
        raise InputError(
            f"its weights were trained with {found}, the model has {layer.statistics}: leave mean and std out to take "
            "the former, or give the same"
        )
    return found


def travelling_statistics(
    state: Mapping[str, Tensor], model: nn.Module, origin: str
) -> list[tuple[Normalize, Statistics]]:
    """The normalising layers of a model that weights under its own names bring figures for, and those figures.

    Raises:
        InputError: a layer's were given, and are others.
    """
    travelling = []
    for name, layer in model.named_modules():
        figures = [state.get(f"{name}.{role}".lstrip(".")) for role in ("mean", "std")]
        mean, std = (tuple(each.flatten().tolist()) if isinstance(each, Tensor) else () for each in figures)
        if isinstance(layer, Normalize) and len(mean) == len(std) == layer.mean.numel():
            travelling.append((layer, settle_statistics(layer, Statistics(mean, std, origin))))
    return travelling


def _fits(key: str, each: Tensor, channels: int) -> bool:
    has_role = role_of(key) is not None
    return (each.numel() == channels and each.dim() > 0) or (each.numel() == 1 and has_role)


def _of(role: str, suspects: Mapping[str, Tensor], channels: int) -> list[tuple[str, Tensor]]:
    named = [(key, each.flatten()) for key, each in suspects.items() if role_of(key) == role]
    return [pair for pair in named if pair[1].numel() == channels] or named
