"""Files and folders that say themselves what network they hold: opened without anybody naming a backbone."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models.factory import check_forward, create_model
from lightning_adv.models.folders import TimmFolder, is_onnx, read_timm_folder
from lightning_adv.models.normalize import Statistics, normalized, statistics_of
from lightning_adv.models.onnx import OnnxNet
from lightning_adv.models.transformers_folder import open_transformers_folder
from lightning_adv.models.weights import load_weights
from lightning_adv.models.zoo import located

__all__ = ["open_model"]


def open_model(
    path: str | Path,
    *,
    backbone: str | None = None,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    statistics: Statistics | None = None,
    backbone_options: Mapping[str, int | float | bool | str] | None = None,
    which: str | None = None,
    match: Literal["names", "order"] = "names",
) -> nn.Module:
    """The network of a folder or file with its weights: images in [0, 1] -> logits.

    Args:
        path: a folder of timm, the Hugging Face hub or transformers, or an ONNX file.
        backbone: name of the network, for a folder that does not say it.
        num_classes: of the data, which the network must have.
        in_channels: of the images.
        image_size: height and width of the images.
        mean: of each channel, instead of what the folder tells; before an ONNX file, where one is given.
        std: of each channel, instead of what the folder tells.
        statistics: of the data, where neither tells any.
        backbone_options: of the network, beside those of the folder.
        which: of several sets of weights, as `load_weights` takes it.
        match: as `load_weights` takes it.

    Raises:
        InputError: settings or weights that are missing, damaged, ask for code or do not fit the data.
    """
    path = located(path)
    if is_onnx(path):
        net = OnnxNet(path)
        check_forward(str(path), net, num_classes, in_channels, image_size)
        return _told(path, normalized(net, mean, std))
    folder = read_timm_folder(path) if backbone is None or (path / "config.json").is_file() else None
    if folder is None and backbone is None:
        if mean is not None and std is not None:
            statistics = Statistics(tuple(mean), tuple(std), "mean and std as given")
        model = open_transformers_folder(path, statistics)
        _check_classes(path, model.num_classes, num_classes)
        check_forward(str(path), model, num_classes, in_channels, image_size)
        return _told(path, model)
    folder = folder or TimmFolder(str(backbone))
    _check_classes(path, folder.num_classes, num_classes)
    model = create_model(
        backbone or folder.architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        mean=mean,
        std=std,
        statistics=Statistics(folder.mean, folder.std, f"{path.name}/config.json") if folder.mean else statistics,
        small_image_stem=False,  # published weights are of the architecture as it is
        backbone_options={**folder.options, **(backbone_options or {})},
    )
    load_weights(path, model, which=which, match=match)
    _tell_other_images(path, folder, image_size)
    return model


def _check_classes(path: Path, theirs: int | None, ours: int) -> None:
    if theirs is not None and theirs != ours:
        raise InputError(f"{path} has {theirs} classes, the data {ours}: give data whose classes are the network's")


def _told(path: Path, model: nn.Module) -> nn.Module:
    """The model, with a word on its normalisation where neither the file nor the user said any."""
    statistics = statistics_of(model)
    if statistics is None or statistics.assumed:
        in_force = "images go in as they are" if statistics is None else f"in force stays {statistics}"
        warnings.warn(f"{path}: it does not say how its images were normalised, {in_force}", stacklevel=3)
    return model


def _tell_other_images(path: Path, folder: TimmFolder, image_size: tuple[int, int]) -> None:
    if folder.prepared and folder.input_size[1:] != tuple(image_size):
        warnings.warn(
            f"{path} was trained on images of {folder.prepared}; those of the data have "
            f"{image_size[0]} x {image_size[1]} pixels",
            stacklevel=3,
        )
