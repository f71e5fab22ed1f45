"""One line an epoch."""

import time
from datetime import timedelta

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_adv.callbacks.evaluation import scalars_of_epoch
from lightning_adv.evaluation.progress import Tells, say
from lightning_adv.results.lines import fitted
from lightning_adv.screen import columns

__all__ = ["EpochLine"]


class EpochLine(Tells, Callback):
    """Prints the epoch's accuracies, success of attacks and loss, its seconds and the time that the run has left.

    What is measured on validation images stands under its own name, e.g. ``pgd20 83.4%`` for the robust accuracy under
    that attack; what belongs to the training says so. The command line adds it, on a terminal too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began = self._epoch_began = time.monotonic()
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time, and the epoch that a resumed run goes on with."""
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._epoch_began = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what was measured in this epoch."""
        measured = scalars_of_epoch(trainer)  # on all ranks
        shown = {key: value for key, value in measured.items() if key == "train/loss" or _is_headline(key)}
        if not trainer.is_global_zero or not shown:
            return
        values = [f"{_short(k)} {v:.3f}" if k == "train/loss" else f"{_short(k)} {v:.1%}" for k, v in shown.items()]
        planned = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        now, done = time.monotonic(), trainer.current_epoch + 1
        spent = f"{now - self._epoch_began:.1f} s"
        if planned and done < planned:
            left = (planned - done) * (now - self._began) / (done - self._first)
            spent = f"{spent}, {timedelta(seconds=round(left))} left"
        head = f"epoch {done}/{planned}" if planned else f"epoch {done}"
        say(trainer, "\n".join(fitted([head, *values, spent], columns())).lstrip())


def _is_headline(key: str) -> bool:
    """A share of the stage, of an attack or of an evaluation; those of pairs, one level down, would flood the line."""
    return key.endswith(("accuracy", "attack_success_rate", "false_activation_rate")) and key.count("/") <= 2


def _short(key: str) -> str:
    """``pgd20`` for ``val/pgd20/robust_accuracy``, ``clean`` for ``val/clean_accuracy``, ``train robust``, ``loss``."""
    words = key.removeprefix("val/").replace("/", " ").replace("_", " ")
    if words == "train loss":
        return "loss"
    words = words.removesuffix(" accuracy").removesuffix(" rate")
    return words if words.startswith("train") else words.removesuffix(" robust")
