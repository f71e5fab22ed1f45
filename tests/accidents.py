"""What happens to processes of a cluster, on purpose."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

__all__ = ["KilledOnce"]


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
