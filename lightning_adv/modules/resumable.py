"""What the project's modules share: a checkpoint that fits, and an epoch that goes on where it was interrupted."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_adv.models import check_finite, check_state
from lightning_adv.modules.seeded import SeededSteps

__all__ = ["Resumable"]

KEY = "epoch_so_far"


class Resumable(SeededSteps):
    """Mixed into a LightningModule: what ``train_...`` metrics have counted of an epoch is in its checkpoint.

    Lightning forgets it, and the figures of an epoch that was interrupted would be those of its last part. The ranks'
    counts are added up; rank zero takes them up again, so that the number of ranks may change. A checkpoint of another
    architecture, or with weights that are no numbers, is refused in one line.
    """

    _so_far: dict[str, dict[str, Tensor]] | None = None
    _of_epoch = -1

    def train_figures(self) -> dict[str, Metric]:
        """What is logged of an epoch of training, by its key; a module needs a ``MeanMetric`` named ``train_loss``."""
        return {"train/loss": self.train_loss}

    def log_train_loss(self, loss: Tensor, images: int) -> None:
        """Count the loss of a step over so many images, and log the figures of the epoch."""
        self.train_loss.update(loss.detach(), images)
        self.log_dict(self.train_figures(), on_step=False, on_epoch=True)

    def on_train_batch_start(self, batch: tuple, batch_idx: int) -> None:
        """Take up what was counted before an interruption."""
        super().on_train_batch_start(batch, batch_idx)
        if batch_idx > 0:
            self._take_up()
        else:
            for metric in self._train_metrics().values():
                metric.reset()  # Lightning does not where no step has logged them
        self._so_far = None  # the counts at an epoch's end are none of the next one's

    def on_validation_epoch_end(self) -> None:
        """Log the figures of an epoch that was interrupted after its last batch."""
        in_fit = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        if in_fit and self.trainer.is_last_batch and self._take_up():
            # Lightning would reset the metrics themselves at the beginning of the next validation.
            figures = {key: metric.compute() for key, metric in self.train_figures().items()}
            self.log_dict(figures, reduce_fx="max", sync_dist=True)  # they are the same on all ranks

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the counts of all ranks."""
        super().on_save_checkpoint(checkpoint)
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        counts = self._so_far if self._is_pending() else None  # interrupted again before they were taken up
        if counts is None:
            counts = {name: self._totals(metric) for name, metric in self._train_metrics().items()}
        checkpoint[KEY] = {"epoch": self.current_epoch, "metrics": counts}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Refuse weights that do not fit, and remember the counts.

        Raises:
            InputError: weights are missing, left over, of another shape or not finite.
        """
        super().on_load_checkpoint(checkpoint)
        path = (self._trainer.ckpt_path if self._trainer is not None else None) or "the checkpoint"
        state = checkpoint.get("state_dict")
        if isinstance(state, Mapping):  # a sharded one is loaded otherwise
            check_finite(state, path)
            if self.strict_loading:
                check_state(state, self, path)
        kept = checkpoint.get(KEY)
        if kept is None:
            return
        own = self._train_metrics()
        self._of_epoch = int(kept["epoch"])
        self._so_far = {
            name: {
                key: torch.as_tensor(states[key]).to(value.dtype).reshape(value.shape)
                for key, value in own[name].metric_state.items()
            }
            for name, states in kept["metrics"].items()
            if name in own
        }

    def _is_pending(self) -> bool:
        """Whether there are counts of this epoch that are not taken up yet."""
        return self._so_far is not None and self._of_epoch == self.current_epoch

    def _take_up(self) -> bool:
        so_far, self._so_far = self._so_far if self._is_pending() else None, None
        if so_far is None:
            return False
        own = self._train_metrics()
        for name, states in so_far.items():
            metric = own[name]
            metric._update_count = 1  # it would warn of a figure without a count
            for state, value in states.items() if self.global_rank == 0 else ():
                setattr(metric, state, value.to(self.device))
        return True

    def _train_metrics(self) -> dict[str, Metric]:
        children = dict(self.named_children())
        return {name: each for name, each in children.items() if name.startswith("train_") and isinstance(each, Metric)}

    def _totals(self, metric: Metric) -> dict[str, Tensor]:
        states = metric.metric_state.items()
        return {name: self.trainer.strategy.reduce(each.clone(), reduce_op="sum").cpu() for name, each in states}
