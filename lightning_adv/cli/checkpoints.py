"""What the command line reads from a checkpoint: a configuration that the user's own arguments override."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from lightning_adv.callbacks import EpochEndEvaluation
from lightning_adv.callbacks.run_record import CONFIG_KEY
from lightning_adv.cli.classes import find_class
from lightning_adv.cli.stored_config import check_no_other_files, read_stored_config, without_outputs
from lightning_adv.errors import InputError
from lightning_adv.models import check_layout, read_checkpoint
from lightning_adv.models.folders import is_whole
from lightning_adv.models.refusals import refuse_shards
from lightning_adv.models.weights import holds_safetensors

__all__ = ["Described", "describe_checkpoint", "is_checkpoint"]

OF_TRAINING = ("optimizer", "lr_scheduler", "weights", "which", "match", "pretrained")
"""Arguments of the model that mean nothing once it is trained."""

CALLBACKS = "trainer.callbacks"
LIGHTNING = "pytorch-lightning_version"


@dataclass(frozen=True)
class Described:
    """What a file of weights says of itself.

    Args:
        config: its model and data, as far as it tells.
        evaluations: configurations of the evaluation callbacks it was trained with.
        is_checkpoint: whether Lightning can load it; else its weights are the model's to load, as are those of
            another project's checkpoint where the model is this project's.
        left_out: dotted names of settings that say where to write, which are the user's alone.
    """

    config: dict = field(default_factory=dict)
    evaluations: list[dict] = field(default_factory=list)
    is_checkpoint: bool = True
    left_out: list[str] = field(default_factory=list)


def describe_checkpoint(path: str, trusted: Sequence[str] = ()) -> Described:
    """Read a Lightning checkpoint or bare weights; nothing in it is executed, imported or built.

    Args:
        path: of the file, or of a folder that holds a network.
        trusted: packages, modules or classes beyond the allow-list that its configuration may name.

    Raises:
        InputError: no such file, not a file of weights, one that holds code, or a configuration that names what it
            may not or is none.
    """
    checkpoint = {} if is_whole(path) else _content(path)
    if CONFIG_KEY not in checkpoint or LIGHTNING not in checkpoint:
        model = {"class_path": "ClassifierModule", "init_args": {"weights": str(path)}}
        return Described({"model": model}, is_checkpoint=LIGHTNING in checkpoint)
    whole = read_stored_config(checkpoint[CONFIG_KEY], path, trusted)
    config = {key: whole[key] for key in ("model", "data") if whole.get(key)}
    arguments = config.get("model", {}).get("init_args") or {}
    for name in OF_TRAINING:
        if name != "weights" or arguments.get("backbone"):  # else they say what network it is
            arguments.pop(name, None)
    callbacks = (whole.get("trainer") or {}).get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    config, left_out = without_outputs(config, "")
    evaluations, more = without_outputs([each for each in callbacks if _is_evaluation(each["class_path"])], CALLBACKS)
    check_no_other_files([config, evaluations], path)
    return Described(config, evaluations, True, [*left_out, *more])


def is_checkpoint(path: str) -> bool:
    """Whether Lightning can load a file; else it is bare weights.

    Raises:
        InputError: no such file, not a file of weights, or one that holds code.
    """
    return LIGHTNING in _content(path)


def _content(path: str) -> dict[str, object]:
    file = Path(path)
    if not file.is_file():
        refuse_shards(file)
        raise InputError(f"there is no checkpoint {path}; those of a run are in the folder checkpoints/ of its folder")
    checkpoint = {} if holds_safetensors(file) else read_checkpoint(file)
    if LIGHTNING in checkpoint:
        check_layout(checkpoint, path)
    return checkpoint


def _is_evaluation(class_path: str) -> bool:
    """Whether a class that a file may name is an evaluation."""
    with suppress(ImportError):  # one that the user trusts; the parser says what is wrong with it
        import_module(class_path.rpartition(".")[0] or "lightning_adv")
    cls = find_class(class_path)
    return cls is not None and issubclass(cls, EpochEndEvaluation)
