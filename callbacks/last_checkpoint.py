"""The checkpoint that a killed run goes on from."""

from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.types import STEP_OUTPUT

from lightning_adv.callbacks.run_record import run_folder
from lightning_adv.callbacks.whole_checkpoints import check_loops, forget_other_files, keep_checkpoints_whole
from lightning_adv.data import ImageLoader
from lightning_adv.errors import InputError
from lightning_adv.interruption import Interrupted, requested

__all__ = ["LastCheckpoint", "end_if_asked"]


class LastCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` of the run's folder: every n steps and at the end of every epoch.

    A kill, a full disk or a loss of power leaves the old checkpoint or the new one, of this and of every other callback
    of the trainer that saves (:class:`WholeCheckpoints`). Between a batch and the validation that follows it nothing is
    saved: a run resumed there would leave that validation out.
    A run that SIGTERM or Ctrl-C asks to end is saved after the step, and ended.

    Args:
        every_n_steps: optimiser steps between two saves within an epoch.
        folder: default ``checkpoints`` in the run's folder.

    Raises:
        InputError: ``every_n_steps`` below 1.
    """

    def __init__(self, every_n_steps: int = 500, folder: str | None = None) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise InputError(f"every_n_steps of LastCheckpoint must be at least 1, got {every_n_steps}")
        self.every_n_steps, self.folder = every_n_steps, folder
        self.path: Path | None = None
        self._saved_at = self._step = 0
        self._optimizers: int | None = None  # of the checkpoint that the run goes on from
        self._loaders: list = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fix the path, the same on all ranks, and how checkpoints are saved."""
        keep_checkpoints_whole(trainer)
        self.path = (Path(self.folder) if self.folder else run_folder(trainer) / "checkpoints") / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count steps from here on; refuse to go on with other images, or without the state of an optimiser."""
        if self._optimizers not in (None, len(trainer.optimizers)):
            raise InputError(
                f"the checkpoint {trainer.ckpt_path} holds states of {self._optimizers} optimisers and the model has "
                f"{len(trainer.optimizers)}; go on with the model that it was trained with"
            )
        # Lightning tells a loader its state in the midst of an epoch only.
        loaders = [each for each in CombinedLoader(trainer.train_dataloader).flattened if isinstance(each, ImageLoader)]
        for loader, state in zip(loaders, self._loaders, strict=False):
            loader.check_images(state)
        self._saved_at = self._step = trainer.global_step

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Check how far the run came and which files it saved, before Lightning takes it over."""
        check_loops(trainer, checkpoint)
        forget_other_files(trainer, checkpoint)
        states = checkpoint.get("optimizer_states")
        self._optimizers = len(states) if isinstance(states, list) and trainer.state.fn == "fit" else None
        loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {})
        loaders = loop.get("combined_loader") if trainer.state.fn == "fit" else None
        self._loaders = [each for each in loaders if isinstance(each, dict)] if isinstance(loaders, list) else []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: tuple, batch_idx: int
    ) -> None:
        """Save if n steps are done since the last time; never with gradients half accumulated."""
        stepped = trainer.global_step > self._step
        self._step = trainer.global_step
        if not stepped or _validation_follows(trainer, batch_idx):
            return
        number = asked_to_end(trainer)
        if number or trainer.global_step - self._saved_at >= self.every_n_steps:
            self._save(trainer)
        if number:
            raise Interrupted(number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished epoch; a run that is asked to end goes no further, unless it was the last one."""
        self._save(trainer)
        if not _is_last(trainer):
            end_if_asked(trainer)

    def write(self, trainer: Trainer, checkpoint: dict) -> None:
        """Keep a checkpoint that was made before; on rank zero, which need not wait for the others."""
        if not trainer.fast_dev_run:
            trainer.strategy.save_checkpoint(checkpoint, self.path)

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:
            self._saved_at = trainer.global_step
            trainer.save_checkpoint(self.path, weights_only=False)


def end_if_asked(trainer: Trainer) -> None:
    """End a run that a signal asks to end; call on all ranks.

    Raises:
        Interrupted: one of the ranks has got a signal.
    """
    number = asked_to_end(trainer)
    if number:
        raise Interrupted(number)


def asked_to_end(trainer: Trainer) -> int:
    """Number of the signal that a rank has got, 0 if none has; the same on all of them."""
    number = requested() or 0
    if trainer.world_size == 1:
        return number
    return int(trainer.strategy.reduce(torch.tensor(number, device=trainer.strategy.root_device), reduce_op="max"))


def _is_last(trainer: Trainer) -> bool:
    """Whether training ends with this epoch."""
    epochs, steps = trainer.max_epochs or -1, trainer.max_steps
    at_limit = 0 < epochs <= trainer.fit_loop.epoch_progress.current.processed or 0 < steps <= trainer.global_step
    return trainer.should_stop or at_limit


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the epoch ends with this batch, or validation in its midst may come before the next one."""
    batches = batch_idx if trainer.check_val_every_n_epoch else trainer.fit_loop.total_batch_idx
    every = trainer.val_check_batch or float("inf")  # None if it is a time
    return trainer.is_last_batch or (batches + 1) % every == 0
