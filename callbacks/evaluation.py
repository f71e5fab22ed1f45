"""When an evaluation runs, on which images, and where its result goes."""

from abc import abstractmethod
from collections.abc import Collection, Iterator
from typing import Literal, TypeVar

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from lightning_adv.callbacks.journal import log_figure, log_table
from lightning_adv.callbacks.progress import track
from lightning_adv.callbacks.share import Share, evaluation_loader
from lightning_adv.errors import InputError
from lightning_adv.reports.results import EvaluationResult

__all__ = ["EpochEndEvaluation"]

Item = TypeVar("Item")


class EpochEndEvaluation(Callback):
    """Base of the callbacks that evaluate a model at the end of an epoch, in ``fit``, ``validate`` and ``test``.

    A subclass is two methods: :meth:`evaluate` goes over this rank's images, :meth:`results` adds up the ranks and
    returns a typed result. This class knows when (every n epochs and after the last), on what (a seeded choice of
    images, each on one rank), and where to (scalars through ``pl_module.log``, tables and pictures to every logger,
    the result and the history to the report). Any LightningModule that maps images to logits will do.

    Args:
        name: part of the metric keys and of the callback's state; two callbacks of one class need two names.
        every_n_epochs: in fit; the last epoch is always evaluated.
        max_samples: images over all ranks, a seeded choice; None for all.
        batch_size: images a batch on one rank; None for the data loader's.
        pictures: log pictures and tables "last" (after the last epoch, and in validate and test), "always" or "never".
        seed: of the choice of images.
    """

    def __init__(
        self,
        name: str,
        every_n_epochs: int = 1,
        max_samples: int | None = None,
        batch_size: int | None = None,
        pictures: Literal["last", "always", "never"] = "last",
        seed: int = 0,
    ) -> None:
        super().__init__()
        for argument, value in (
            ("every_n_epochs", every_n_epochs),
            ("max_samples", max_samples),
            ("batch_size", batch_size),
        ):
            if value is not None and value < 1:
                raise InputError(f"{argument} of {type(self).__name__} must be at least 1, got {value}")
        self.name, self.every_n_epochs, self.max_samples = name, every_n_epochs, max_samples
        self.batch_size, self.pictures, self.seed = batch_size, pictures, seed
        self.result: EvaluationResult | None = None
        self.history: dict[str, list[list[float]]] = {}
        self._pictured = True

    @abstractmethod
    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> None:
        """Go over this rank's images; the model is in eval mode, under the trainer's precision."""

    @abstractmethod
    def results(self, trainer: Trainer) -> EvaluationResult:
        """Add up all ranks (called on every one) and give the typed result."""

    @property
    def state_key(self) -> str:
        """Distinct for callbacks of one class with different names, so that both resume."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict:
        """The history of scalars, so that the curves of a resumed run are whole."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take the history up again."""
        self.history = state_dict["history"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a fit in which the evaluation would silently never run."""
        if not trainer.enable_validation:
            raise InputError(
                f"{type(self).__name__} runs after validation and there is none: it needs a val_dataloader, "
                "a validation_step and limit_val_batches above 0"
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate if this epoch is due."""
        if trainer.sanity_checking or (trainer.state.fn == "fit" and not self._is_due(trainer)):
            return
        self._run(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the test images."""
        self._run(trainer, pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the pictures of the last result when training ended earlier than planned."""
        self._log_pictures(trainer)

    def track(self, trainer: Trainer, items: Collection[Item], title: str) -> Iterator[Item]:
        """Iterate under a progress bar."""
        return track(trainer, items, title)

    def _is_due(self, trainer: Trainer) -> bool:
        return (trainer.current_epoch + 1) % self.every_n_epochs == 0 or self._is_last(trainer)

    def _is_last(self, trainer: Trainer) -> bool:
        return trainer.state.fn != "fit" or trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs

    def _run(self, trainer: Trainer, pl_module: LightningModule, stage: Literal["val", "test"]) -> None:
        loader: DataLoader = evaluation_loader(trainer, stage)
        with trainer.precision_plugin.forward_context():
            self.evaluate(trainer, pl_module, Share(trainer, loader, self.max_samples, self.batch_size, self.seed))
        self.result = self.results(trainer)
        self.result.stage = stage
        self.result.epoch = trainer.current_epoch + 1 if trainer.state.fn == "fit" else 0
        scalars = {f"{stage}/{key}": float(value) for key, value in self.result.scalars().items()}
        # Every rank holds the same totals: the mean over ranks changes nothing and lets other callbacks monitor them.
        pl_module.log_dict(scalars, sync_dist=True, batch_size=1)
        for key, value in scalars.items():
            self.history.setdefault(key, []).append([self.result.epoch, value])
        self._pictured = self.pictures == "never"
        if self.pictures == "always" or self._is_last(trainer):
            self._log_pictures(trainer)

    def _log_pictures(self, trainer: Trainer) -> None:
        if self._pictured or self.result is None:
            return
        self._pictured = True
        if not (trainer.is_global_zero and trainer.loggers):
            return
        key = f"{self.result.stage}/{self.name}"
        for number, table in enumerate(self.result.tables()):
            log_table(trainer, f"{key}/table_{number}", table)
        for picture in self.result.pictures():
            log_figure(trainer, f"{key}/{picture.name}", picture.draw())
