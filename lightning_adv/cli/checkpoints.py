"""What the command line reads from a checkpoint: a configuration that the user's own arguments override."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lightning_adv.callbacks import EpochEndEvaluation
from lightning_adv.callbacks.run_record import CONFIG_KEY
from lightning_adv.cli.classes import find_class
from lightning_adv.errors import InputError

__all__ = ["Described", "describe_checkpoint"]

OF_TRAINING = ("optimizer", "lr_scheduler", "weights", "pretrained")
"""Arguments of the model that mean nothing once it is trained."""


@dataclass(frozen=True)
class Described:
    """What a file of weights says of itself.

    Args:
        config: its model and data, as far as it tells.
        evaluations: configurations of the evaluation callbacks it was trained with.
        is_checkpoint: whether Lightning can load it; else its weights are the model's to load.
    """

    config: dict = field(default_factory=dict)
    evaluations: list[dict] = field(default_factory=list)
    is_checkpoint: bool = True


def describe_checkpoint(path: str) -> Described:
    """Read a Lightning checkpoint or bare weights, without unpickling any code.

    Raises:
        InputError: no such file, not a file of weights, or one that holds code.
    """
    from lightning_adv.models import read_checkpoint

    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no checkpoint {path}; those of a run are in the folder checkpoints/ of its folder")
    checkpoint = {} if file.suffix == ".safetensors" else read_checkpoint(file)
    if "pytorch-lightning_version" not in checkpoint:
        model = {"class_path": "ClassifierModule", "init_args": {"weights": str(path)}}
        return Described({"model": model}, is_checkpoint=False)
    whole = yaml.safe_load(str(checkpoint.get(CONFIG_KEY, ""))) or {}
    config = {key: whole[key] for key in ("model", "data") if whole.get(key)}
    arguments = config.get("model", {}).get("init_args") or {}
    for name in OF_TRAINING:
        arguments.pop(name, None)
    callbacks = (whole.get("trainer") or {}).get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    return Described(config, [each for each in callbacks if _is_evaluation(each["class_path"])])


def _is_evaluation(class_path: str) -> bool:
    cls = find_class(class_path)
    return cls is not None and issubclass(cls, EpochEndEvaluation)
