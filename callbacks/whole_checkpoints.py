"""Checkpoints that a kill cannot destroy, and that are not loaded when they are damaged."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.models import check_archive, check_finite

__all__ = ["WholeCheckpoints", "check_loops", "forget_other_files", "keep_checkpoints_whole"]


SAVED_FILES = ("best_model_path", "kth_best_model_path", "last_model_path")
"""What a ``ModelCheckpoint`` keeps of files, beside ``best_k_models``."""


class WholeCheckpoints(TorchCheckpointIO):
    """Saves beside the old checkpoint, on its own disk, and replaces it in one step; checks what it loads.

    Lightning writes to the temporary folder and moves the file, which is a copy where that is another file system: a
    kill while copying leaves half a checkpoint in place of the old one. Addresses (``s3://...``) stay Lightning's.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, object], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Replace the file in one step.

        Raises:
            InputError: the folder cannot be written, or the disk is full; the old checkpoint is as it was.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            replace_atomically(path, partial(torch.save, checkpoint))

    def load_checkpoint(
        self, path: str | Path, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> dict[str, object]:
        """Load as Lightning does, to the CPU by default.

        Raises:
            InputError: the file is damaged, or its weights are not finite.
        """
        if Path(path).is_file():
            check_archive(Path(path))
        content = super().load_checkpoint(path, map_location or "cpu", weights_only)
        check_finite(content.get("state_dict", {}), path)
        return content


def keep_checkpoints_whole(trainer: Trainer) -> None:
    """Let a trainer save and load by :class:`WholeCheckpoints`, where it would do so in Lightning's plain way.

    Strategies that write a folder of shards, and plugins that the user chose, keep their own.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpoints()


def check_loops(trainer: Trainer, checkpoint: dict[str, object]) -> None:
    """Refuse progress that Lightning would take over and stumble on later, if at all.

    Args:
        trainer: about to restore the checkpoint.
        checkpoint: its content.

    Raises:
        InputError: progress of the loop in question is missing, or not of the kind that it must be.
    """
    command = "" if trainer.state.fn is None else trainer.state.fn.value
    loop = {"fit": trainer.fit_loop, "validate": trainer.validate_loop, "test": trainer.test_loop}.get(command)
    if loop is None or "loops" not in checkpoint:
        return
    name = f"{command}_loop"
    wrong = _unlike(checkpoint["loops"].get(name), loop.state_dict(), name)
    if wrong is not None:
        raise InputError(
            f"{trainer.ckpt_path} is no checkpoint of a run: {wrong} of its loops is damaged; take the file that the "
            "run saved"
        )


def forget_other_files(trainer: Trainer, checkpoint: dict[str, object]) -> None:
    """Take away what a ``ModelCheckpoint`` would believe of files that do not lie in its own folder.

    It removes the files that it once saved when it has better ones, folders and all, and a file of a stranger's may
    name anything as such. A run that was moved keeps its old files, too.

    Args:
        trainer: about to restore the checkpoint.
        checkpoint: its content, which is changed.
    """
    states = checkpoint.get("callbacks", {})
    for callback in trainer.callbacks:
        state = states.get(callback.state_key) if isinstance(callback, ModelCheckpoint) else None
        if not isinstance(state, dict):
            continue
        named = [state.get(key) or "" for key in SAVED_FILES]
        other = [each for each in [*named, *state.get("best_k_models", {})] if not _is_in(callback.dirpath, each)]
        if other:
            del states[callback.state_key]
            rank_zero_warn(
                f"the checkpoint names {other[0]!a:.100} as saved by ModelCheckpoint, which is not in "
                f"{callback.dirpath}: the best models so far are forgotten, and no file of theirs is removed"
            )


def _is_in(folder: str | Path | None, path: object) -> bool:
    """Whether a file is one of a folder's, or none at all."""
    if path == "":
        return True
    if folder is None or not isinstance(path, str) or "::" in path:
        return False
    if "://" in str(folder):
        return path.startswith(str(folder).rstrip("/") + "/") and ".." not in path
    return "://" not in path and Path(path).resolve().is_relative_to(Path(folder).resolve())


def _unlike(found: object, own: object, name: str) -> str | None:
    """Name of the first entry that is not of the kind of the trainer's own, None if there is none."""
    if isinstance(own, dict):
        if not isinstance(found, dict):
            return name
        inner = (_unlike(found[key], value, f"{name}.{key}") for key, value in own.items() if key in found)
        return next((each for each in inner if each is not None), None)
    if isinstance(own, bool) or not isinstance(own, int):
        return None if isinstance(found, type(own)) else name
    return None if isinstance(found, int) and found >= 0 else name
