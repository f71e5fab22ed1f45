"""One line an epoch where there is no terminal to draw a bar in."""

import time

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_adv.callbacks.evaluation import scalars_of_epoch

__all__ = ["EpochLine"]


class EpochLine(Callback):
    """Prints the epoch's accuracies, attack success rates, loss and seconds.

    The command line adds it when stdout is not a terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what was measured in this epoch."""
        measured = scalars_of_epoch(trainer)  # on all ranks
        shown = {key: value for key, value in measured.items() if key == "train/loss" or _is_headline(key)}
        if not trainer.is_global_zero or not shown:
            return
        values = "  ".join(f"{k} {v:.3f}" if k == "train/loss" else f"{k} {v:.1%}" for k, v in shown.items())
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        seconds = time.monotonic() - self._began
        print(f"epoch {trainer.current_epoch + 1}{last}  {values}  {seconds:.1f} s", flush=True)


def _is_headline(key: str) -> bool:
    """A share of the stage, of an attack or of an evaluation; those of pairs, one level down, would flood the line."""
    return key.endswith(("accuracy", "attack_success_rate")) and key.count("/") <= 2
