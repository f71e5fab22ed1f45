"""What the command line reads from a checkpoint: defaults that the user's own arguments override."""

import tempfile
from pathlib import Path

import yaml

from lightning_adv.callbacks.run_record import CONFIG_KEY
from lightning_adv.errors import InputError

__all__ = ["arguments_from_checkpoint"]

EVALUATIONS = "lightning_adv.callbacks."


def arguments_from_checkpoint(path: str, with_callbacks: bool, report: dict) -> tuple[list[str], bool]:
    """Arguments to put before the user's own, so that they describe the checkpoint and the user overrides them.

    Args:
        path: a Lightning checkpoint, or bare weights (``.safetensors`` or a state dict).
        with_callbacks: also take over the evaluations that the model was trained with.
        report: configuration of the report callback that goes with them.

    Returns:
        The arguments, and whether the file is a checkpoint (else bare weights, to be loaded by the model).

    Raises:
        InputError: no such file, not a checkpoint, or one that holds code.
    """
    from lightning_adv.models.weights import read_checkpoint

    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no checkpoint {path}; checkpoints of a run are in its folder checkpoints/")
    if file.suffix == ".safetensors":
        return [f"--model.weights={path}"], False
    checkpoint = read_checkpoint(file)
    if "pytorch-lightning_version" not in checkpoint:
        return [f"--model.weights={path}"], False
    config = _config(checkpoint)
    if not with_callbacks:
        config.pop("trainer", None)
    elif config.get("trainer"):
        config["trainer"]["callbacks"].insert(0, report)
    # The file must outlive this call: the parser reads it, and relaunched ranks make their own.
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="from_checkpoint_", delete=False) as out:
        yaml.safe_dump(config, out)
    return ["--config", out.name], True


def _config(checkpoint: dict) -> dict:
    """Model, data, and evaluations of the run that wrote the checkpoint."""
    whole = yaml.safe_load(checkpoint.get(CONFIG_KEY, "{}")) or {}
    config = {key: whole[key] for key in ("model", "data") if whole.get(key)}
    for key in ("weights", "pretrained"):  # the checkpoint's own weights follow
        config.get("model", {}).get("init_args", {}).pop(key, None)
    callbacks = (whole.get("trainer") or {}).get("callbacks") or []
    evaluations = [each for each in callbacks if _is_evaluation(each["class_path"])]
    if evaluations:
        config["trainer"] = {"callbacks": evaluations}
    return config


def _is_evaluation(class_path: str) -> bool:
    import lightning_adv.callbacks as package

    cls = getattr(package, class_path.rsplit(".", 1)[-1], None)
    return class_path.startswith(EVALUATIONS) and cls is not None and issubclass(cls, package.EpochEndEvaluation)
