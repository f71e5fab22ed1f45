"""One line an epoch where there is no terminal to draw a bar in."""

import time

from pytorch_lightning import Callback, LightningModule, Trainer

__all__ = ["EpochLine"]


class EpochLine(Callback):
    """Prints the epoch's accuracies, loss and seconds; the command line adds it when stdout is not a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch before: only now are its training metrics averaged."""
        self._print(trainer)
        self._began = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or trainer.current_epoch == 0:
            return
        shown = {
            k: float(v) for k, v in trainer.callback_metrics.items() if k.endswith("accuracy") or k == "train/loss"
        }
        if not shown:
            return
        values = "  ".join(f"{k} {v:.3f}" if k == "train/loss" else f"{k} {v:.1%}" for k, v in shown.items())
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        print(f"epoch {trainer.current_epoch}{last}  {values}  {time.monotonic() - self._began:.1f} s", flush=True)
