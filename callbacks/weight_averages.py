"""Averages of the weights over training, which are validated, attacked and saved in their place."""

import math

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lightning_adv.asking import logits_of, switch_to_eval
from lightning_adv.errors import InputError
from lightning_adv.evaluation.share import Share, training_loader

__all__ = ["EMA", "SWA"]

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class EMA(WeightAveraging):
    """Exponential average of the weights over the steps, with a decay that rises (Rebuffi et al., 2021).

    After the n-th step the average moves by 1 - d towards the weights, d = min(decay, (1 + n) / (10 + n)); n counts
    from the start, until which the average is the weights. BatchNorm's statistics are those of the weights. A
    checkpoint holds both: ``state_dict`` is the average, ``current_model_state`` the weights, and ``weights=FILE``
    takes the one with ``which="ema"`` (the default) or the other with ``which="live"``.

    Args:
        decay: that is reached in the end; .995 for generated data, .999 and more for long runs.
        ramp: whether the decay rises; without, it is ``decay`` from the start.
        start: share of all steps before which the average is the weights (.025 in Wang et al., 2023).
        device: where the average lies; default the model's.

    Raises:
        InputError: a decay or start outside [0, 1), or a start in a run without an end.

    Example:
        >>> [round(EMA(decay=0.9).decay_after(n), 2) for n in (0, 10, 1000)]
        [0.1, 0.55, 0.9]
    """

    def __init__(self, decay: float = 0.995, ramp: bool = True, start: float = 0.0, device: str | None = None) -> None:
        if not (0 <= decay < 1 and 0 <= start < 1):
            raise InputError(f"decay and start of EMA must lie in [0, 1), got {decay} and {start}")
        super().__init__(device=device, use_buffers=False, multi_avg_fn=self._move)
        self.decay, self.ramp, self.start = decay, ramp, start
        self._updates = self._first = 0

    def decay_after(self, steps: int) -> float:
        """d after so many steps from the start on."""
        return min(self.decay, (1 + steps) / (10 + steps)) if self.ramp else self.decay

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fix the step at which averaging starts."""
        steps = trainer.estimated_stepping_batches if self.start else 0
        if math.isinf(steps):
            raise InputError("start of EMA is a share of the run, and this one has no end: set max_epochs or max_steps")
        self._first = math.ceil(self.start * steps)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: tuple, batch_idx: int
    ) -> None:
        """Move the average after a step of the optimiser."""
        before = self._latest_update_step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._updates += self._latest_update_step > before

    def state_dict(self) -> dict[str, int]:
        """The number of updates; the average itself is in the checkpoint."""
        return super().state_dict() | {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        super().load_state_dict(state_dict)
        self._updates = state_dict["updates"]

    def _move(self, averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        since = self._updates - self._first
        get_ema_multi_avg_fn(self.decay_after(since) if since >= 0 else 0.0)(averaged, current, count)


class SWA(WeightAveraging):
    """The mean of the weights at the ends of epochs, from one on (Izmailov et al., Averaging Weights, 2018).

    Until then it is the weights. No epoch's statistics of BatchNorm fit the mean: they are measured on clean training
    images, without augmentation, in whole batches.

    Args:
        start_epoch: the first epoch whose weights count, from 0.
        samples: training images over all ranks that statistics are measured on; None for all.
        device: where the mean lies; default the model's.

    Raises:
        InputError: a negative epoch, no image.
    """

    def __init__(self, start_epoch: int, samples: int | None = 10_000, device: str | None = None) -> None:
        if start_epoch < 0 or (samples is not None and samples < 1):
            raise InputError(f"SWA needs start_epoch >= 0 and at least one of samples, got {start_epoch} and {samples}")
        super().__init__(device=device, use_buffers=False)
        self.start_epoch, self.samples = start_epoch, samples

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: tuple, batch_idx: int
    ) -> None:
        """Take the weights in at the end of an epoch, before they are validated."""
        if trainer.is_last_batch:
            self._take_in(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the epoch's weights are in."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the mean in the place of the weights, whatever the batch before the first epoch that counts."""
        if self._average_model is not None and trainer.current_epoch < self.start_epoch:
            self._take_in(trainer, pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def _take_in(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch <= self.start_epoch:
            self._average_model.n_averaged.zero_()  # the first one is copied
        self._average_model.update_parameters(pl_module)
        if self._average_model.n_averaged > 1:
            _measure_statistics(trainer, self._average_model.module, self.samples)


def _measure_statistics(trainer: Trainer, model: nn.Module, samples: int | None) -> None:
    """Means and variances of every BatchNorm over training images, all of equal weight."""
    norms = [each for each in model.modules() if isinstance(each, BATCH_NORM) and each.running_mean is not None]
    if not norms:
        return
    switch_to_eval(model)
    momenta = [norm.momentum for norm in norms]
    with isolate_rng(), torch.no_grad(), trainer.precision_plugin.forward_context():
        share = Share(trainer, training_loader(trainer, "SWA"), samples, None, seed=0)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for number, batch in enumerate(share):
            # Batches count alike: one that is not whole would count for more than it has, and a single image has no
            # variance where maps have shrunk to one position.
            if number == 0 or len(batch.image) == share.batch_size:
                logits_of(model, batch.image)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        batches = norm.num_batches_tracked
        total = trainer.strategy.reduce(batches.clone(), reduce_op="sum")
        for statistic in (norm.running_mean, norm.running_var):
            statistic.copy_(trainer.strategy.reduce(statistic * batches, reduce_op="sum") / total)
        batches.copy_(total)
