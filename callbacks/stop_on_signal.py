"""A signal ends a run where it can be gone on with bit for bit."""

import signal

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from lightning_adv.callbacks.last_checkpoint import LastCheckpoint, end_if_asked
from lightning_adv.interruption import Interrupted, hold, release

__all__ = ["StopOnSignal", "before_validation"]


class StopOnSignal(Callback):
    """Decides when SIGTERM and Ctrl-C may end a run; added to every run by the command line, as its first callback.

    A training step is never cut: ``LastCheckpoint`` saves at the next step that can be gone on from, on all ranks the
    same, and ends the run. Validation within ``fit``, an evaluation of hours among it, is cut anywhere: the checkpoint
    is that of its beginning, which it does not change. Where weights are spread over processes validation is finished
    first. ``validate`` and ``test`` are cut anywhere: what was measured is in the report, verdicts in their journal.
    The signal that SLURM sends before the time limit (``SLURMEnvironment``, SIGUSR1) ends a run alike; its job then
    goes back into the queue.
    """

    def __init__(self) -> None:
        super().__init__()
        self._beginning: dict | None = None  # the checkpoint of the validation that is under way
        self._requeue = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning's own handlers out: they talk to the other ranks, and save, in the middle of anything."""
        trainer._signal_connector._sigterm_notifier_fn = _nothing
        trainer._signal_connector._slurm_sigusr_handler_fn = self._end_and_requeue

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal waits for the end of a step."""
        hold()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: tuple, batch_idx: int
    ) -> None:
        """End where nobody saves."""
        if not _last_checkpoint(trainer):
            end_if_asked(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals through."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not _is_whole_on_each_rank(trainer):
            return
        if _last_checkpoint(trainer):
            self._beginning = before_validation(trainer)
        release()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The callbacks that follow change what a checkpoint holds."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            hold()
            self._beginning = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the beginning of a validation that was cut, and note where the run was."""
        if not isinstance(exception, Interrupted):
            return
        last = _last_checkpoint(trainer)
        if self._beginning is not None and last is not None:
            last.write(trainer, self._beginning)
        exception.place = exception.place or _place(trainer)
        exception.requeue = self._requeue

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the checkpoint."""
        self._beginning = None

    def _end_and_requeue(self, *_: object) -> None:
        """What SLURM's signal before the time limit asks for, in the way of SIGTERM."""
        self._requeue = True
        signal.raise_signal(signal.SIGTERM)


def _nothing(*_: object) -> None:
    """Do nothing."""


def _last_checkpoint(trainer: Trainer) -> LastCheckpoint | None:
    return next((each for each in trainer.callbacks if isinstance(each, LastCheckpoint)), None)


def _is_whole_on_each_rank(trainer: Trainer) -> bool:
    return isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))


def before_validation(trainer: Trainer) -> dict:
    """A checkpoint from which a run begins with the validation that is about to begin.

    Tensors are not copied, as validation does not change them, but for those that weight averaging exchanges.
    """
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    # Lightning repeats the validation of which it finds the first batch begun and none done.
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    progress["is_last_batch"] = False
    return _copied(checkpoint, any(isinstance(each, WeightAveraging) for each in trainer.callbacks))


def _copied(value: object, tensors: bool) -> object:
    """Containers that nobody changes any more."""
    if isinstance(value, Tensor):
        return value.detach().clone() if tensors else value
    if isinstance(value, dict):
        return type(value)((key, _copied(each, tensors)) for key, each in value.items())
    return type(value)(_copied(each, tensors) for each in value) if type(value) in (list, tuple) else value


def _place(trainer: Trainer) -> str:
    if trainer.state.fn != "fit":
        return f"in {trainer.state.fn.value}" if trainer.state.fn else ""
    progress = trainer.fit_loop.epoch_progress.current
    if not progress.started and not trainer.global_step:
        return "before the first epoch"
    of = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
    if progress.started == progress.processed:
        return f"after epoch {progress.processed}{of}"
    return f"in epoch {progress.processed + 1}{of}"
