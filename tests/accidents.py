"""What happens to processes of a cluster, on purpose."""

import os
import select
import signal
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_adv.interruption import requested

__all__ = ["KilledOnce", "Signalled"]

PAUSE = 0.02
"""Seconds between two looks."""


class KilledOnce(Callback):
    """Kills the second rank's process after a step, unless that has happened before.

    Args:
        step: optimiser steps that are done.
        mark: file that tells that it has happened.
    """

    def __init__(self, step: int, mark: str) -> None:
        self.step, self.mark = step, Path(mark)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: tuple, batch_idx: int
    ) -> None:
        """SIGKILL: nobody cleans up."""
        if trainer.global_step == self.step and trainer.global_rank == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Signalled(Callback):
    """Sends this process a signal when a hook of an epoch is called, unless that has happened before.

    Args:
        number: of the signal.
        hook: name of the hook.
        epoch: counted from 0.
        batch: in which batch of the epoch; None for hooks that are called once an epoch.
        times: how often, one right after the other.
        group: send it to all processes of the group, as a terminal does.
        launcher: send it to the process that started this one, as a cluster does, and wait until it is passed on.
        mark: file that tells that it has happened.
    """

    def __init__(
        self,
        number: int,
        hook: str,
        epoch: int = 0,
        batch: int | None = None,
        times: int = 1,
        group: bool = False,
        launcher: bool = False,
        mark: str = "signalled",
    ) -> None:
        self.number, self.epoch, self.batch, self.times = number, epoch, batch, times
        self.group, self.launcher, self.mark = group, launcher, Path(mark)
        setattr(self, hook, self._strike)

    def _strike(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        at_batch = self.batch is None or self.batch in batch[-2:]
        due = trainer.current_epoch == self.epoch and at_batch and trainer.is_global_zero
        if not due or self.mark.exists():
            return
        self.mark.touch()
        if self.launcher:
            os.kill(os.getppid(), self.number)
            while requested() is None:
                select.select([], [], [], PAUSE)
            return
        for _ in range(self.times):
            os.killpg(os.getpgrp(), self.number) if self.group else signal.raise_signal(self.number)
