"""The bars of a terminal."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

__all__ = ["Bars"]


class Bars(RichProgressBar):
    """Lightning's bars with epochs that are counted from 1 and the loss alone beside them.

    Accuracies stand in the lines above, where they stay.
    """

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | Any]:
        """The loss of the last batch."""
        found = trainer.progress_bar_metrics
        losses = [found[key] for key in ("train/loss_step", "train/loss") if key in found]
        return {"loss": losses[0]} if losses else {}

    def _get_train_description(self, current_epoch: int) -> str:
        most = self.trainer.max_epochs or -1
        return f"epoch {current_epoch + 1}/{most}" if most > 0 else f"epoch {current_epoch + 1}"
