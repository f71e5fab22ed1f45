"""The network of a checkpoint of ``train.py``, read as data: nothing in it says what is imported or built."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models.factory import create_model
from lightning_adv.models.weights import load_weights, read_checkpoint

__all__ = ["open_checkpoint", "stored_arguments"]

NUMBERS = (int, float)
KINDS = {
    "backbone": (str, ()),
    "num_classes": (int, ()),
    "in_channels": (int, ()),
    "image_size": (tuple, (int,)),
    "mean": (tuple, NUMBERS),
    "std": (tuple, NUMBERS),
    "backbone_options": (dict, (int, float, bool, str)),
    "channels_last": (bool, ()),
}
"""Hyperparameters that a network is built from: their type, and that of what they hold."""


def open_checkpoint(path: str | Path) -> nn.Module:
    """The trained network of a checkpoint that ``train.py`` wrote, in eval mode: images in [0, 1] -> logits.

    Raises:
        InputError: no such file, one that is damaged or holds code, no checkpoint of a ClassifierModule with a named
            backbone, weights that do not fit it.
    """
    arguments = stored_arguments(path)
    arguments.pop("channels_last", None)
    missing = [name for name in ("num_classes", "in_channels", "image_size") if name not in arguments]
    if missing:
        raise InputError(f"{path} lacks the hyperparameter {missing[0]}; hand the classifier over as a module")
    try:
        model = create_model(arguments.pop("backbone"), **arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    load_weights(path, model)
    return model.eval()


def stored_arguments(path: str | Path) -> dict[str, object]:
    """Hyperparameters of a checkpoint of ``train.py`` that a network is built from: names, numbers and texts.

    Raises:
        InputError: no such file, one that is damaged or holds code, no checkpoint of a ClassifierModule with a named
            backbone, a hyperparameter of another type.
    """
    stored = read_checkpoint(path).get("hyper_parameters")
    if not isinstance(stored, Mapping) or "backbone" not in stored:
        raise InputError(
            f"{path} is no checkpoint of a ClassifierModule with a named backbone: it lacks the hyperparameter backbone"
        )
    arguments = {name: stored[name] for name in KINDS if stored.get(name) is not None}
    for name, value in arguments.items():
        _check(path, name, value, *KINDS[name])
    return arguments


def _check(path: str | Path, name: str, value: object, kind: type, inner: tuple[type, ...]) -> None:
    """Refuse what is not plain data of the right type."""
    names, held = (list(value), list(value.values())) if isinstance(value, dict) else ([], [])
    held = list(value) if isinstance(value, tuple | list) else held
    fits = isinstance(value, (tuple, list) if kind is tuple else kind) and (kind is bool or not isinstance(value, bool))
    if not fits or not all(type(each) in inner for each in held) or not all(type(each) is str for each in names):
        raise InputError(
            f"{path}: the stored hyperparameter {name} is no {kind.__name__} of plain data but "
            f"{type(value).__name__}; hand the classifier over as a module"
        )
