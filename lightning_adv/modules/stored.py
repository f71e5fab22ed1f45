"""A trained classifier from its checkpoint, which is read as data: nothing in it says what is imported or built."""

from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.modules.classifier import ClassifierModule

__all__ = ["load_classifier"]


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
    from lightning_adv.models import load_weights, stored_arguments

    arguments = stored_arguments(path)
    if channels_last is not None:
        arguments["channels_last"] = channels_last
    try:
        module = ClassifierModule(**arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    load_weights(path, module)
    return module.eval()
