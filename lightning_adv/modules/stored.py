"""A trained classifier from its checkpoint, which is read as data: nothing in it says what is imported or built."""

from collections.abc import Mapping
from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.modules.classifier import ClassifierModule

__all__ = ["load_classifier"]

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


def load_classifier(path: str | Path, *, channels_last: bool | None = None) -> ClassifierModule:
    """The trained ``ClassifierModule`` of a checkpoint in eval mode, its weights on the CPU.

    Lightning's ``load_from_checkpoint`` builds whatever classes the hyperparameters of a file name. This takes the name
    of a backbone, numbers and texts from them, and nothing else.

    Args:
        path: of a checkpoint that ``train.py`` wrote.
        channels_last: keep weights and images in channels-last order; default as in the checkpoint.

    Raises:
        InputError: no such file, one that is damaged or holds code, no checkpoint of a ClassifierModule with a named
            backbone, weights that do not fit it.
    """
    from lightning_adv.models import load_weights, read_checkpoint

    content = read_checkpoint(path)
    stored = content.get("hyper_parameters")
    if not isinstance(stored, Mapping) or "backbone" not in stored:
        raise InputError(
            f"{path} is no checkpoint of a ClassifierModule with a named backbone: it lacks the hyperparameter backbone"
        )
    arguments = {}
    for name, (kind, inner) in KINDS.items():
        value = stored.get(name)
        if value is not None:
            _check(path, name, value, kind, inner)
            arguments[name] = value
    if channels_last is not None:
        arguments["channels_last"] = channels_last
    try:
        module = ClassifierModule(**arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    load_weights(path, module)
    return module.eval()


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
