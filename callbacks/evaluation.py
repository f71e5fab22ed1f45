"""When an evaluation runs, on which images, and where its result goes."""

from abc import abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar, get_args

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from lightning_adv.asking import remarks
from lightning_adv.attacks import leaves_no_trace
from lightning_adv.callbacks.run_record import run_folder
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.history import stored_history
from lightning_adv.evaluation.loggers import log_figure, log_table
from lightning_adv.evaluation.meeting import begin_to_beat, wait_for_every_rank
from lightning_adv.evaluation.order import put_in_turn
from lightning_adv.evaluation.progress import track
from lightning_adv.evaluation.share import Share, evaluation_loader
from lightning_adv.results.kept import as_state, from_state
from lightning_adv.results.result import EvaluationResult

__all__ = ["EpochEndEvaluation", "Shared", "When", "scalars_of_epoch"]

Item = TypeVar("Item")
Measured = TypeVar("Measured")
When = Literal["last", "always", "never"]
Shared = int | str | None
"""Arguments that every evaluation hands on to :class:`EpochEndEvaluation`."""


class EpochEndEvaluation(Callback, Generic[Measured]):
    """Base of the callbacks that evaluate a model at the end of an epoch, in ``fit``, ``validate`` and ``test``.

    A subclass is two methods: :meth:`evaluate` goes over this rank's images and returns what it measured,
    :meth:`results` adds that up over the ranks and returns a typed result. This class knows when (after validation,
    every n epochs and in the last), on what (a seeded choice of images, each on one rank), and where to (scalars
    through ``pl_module.log``, tables and pictures to every logger, the result and the history to the report, files of
    its own by :meth:`write`). Any LightningModule that maps images to logits will do, and training goes on as if there
    had been no evaluation.

    Args:
        name: part of the callback's state and of its keys; two callbacks of one class need two names, None is the
            class's own. Scalars are logged under ``{stage}/{name}/...``, many a class's own name being left out.
        every_n_epochs: in fit; the last epoch is always evaluated.
        max_samples: images over all ranks, a seeded choice; None for all.
        batch_size: images a batch on one rank; None for the data loader's. Smaller ones share out better over ranks.
        pictures: log pictures and tables "last" (after the last epoch, in validate and test), "always" or "never".
        seed: of the choice of images.

    Raises:
        InputError: a number below 1, an unknown value of ``pictures``.
    """

    default_name: ClassVar[str] = ""
    """The name of a callback that is not given one."""

    named_by_default: ClassVar[bool] = False
    """Whether the default name, too, stands before the keys of scalars."""

    def __init__(
        self,
        name: str | None = None,
        every_n_epochs: int = 1,
        max_samples: int | None = None,
        batch_size: int | None = None,
        pictures: When = "last",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.require(1, every_n_epochs=every_n_epochs, max_samples=max_samples, batch_size=batch_size)
        if pictures not in get_args(When):
            allowed = ", ".join(get_args(When))
            raise InputError(f"{type(self).__name__}: pictures must be one of {allowed}, got {pictures!r}")
        self.name, self.every_n_epochs, self.max_samples = name or self.default_name, every_n_epochs, max_samples
        self.batch_size, self.pictures, self.seed = batch_size, pictures, seed
        self.result: EvaluationResult | None = None
        self._before: EvaluationResult | None = None  # what the run had measured when it was interrupted
        self.history: dict[str, list[list[float]]] = {}
        self._pictured = True

    @abstractmethod
    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> Measured:
        """Go over this rank's images and give what was measured.

        The model is in eval mode, under the trainer's precision.
        """

    @abstractmethod
    def results(self, trainer: Trainer, measured: Measured) -> EvaluationResult:
        """Add up what every rank measured (called on every one) and give the typed result."""

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse before the first step of a run, as a rule on ``images.first()``, what would fail hours later."""

    def images(self, trainer: Trainer, stage: Literal["val", "test"]) -> Share:
        """What is evaluated: the images of the first validation or test loader."""
        loader: DataLoader = evaluation_loader(trainer, stage)
        return Share(trainer, loader, self.max_samples, self.batch_size, self.seed)

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Write files of this evaluation's own at the end: called on rank zero, where there is a result.

        Args:
            trainer: of the run.
            model: as it is at the end.
            folder: of the run.
        """

    def require(self, least: int, **numbers: int | None) -> None:
        """Refuse arguments below ``least``; None is none.

        Raises:
            InputError: names the argument.
        """
        for argument, value in numbers.items():
            if value is not None and value < least:
                raise InputError(f"{argument} of {type(self).__name__} must be at least {least}, got {value}")

    @property
    def key_prefix(self) -> str:
        """What stands between stage and key of every scalar."""
        return f"{self.name}/" if self.named_by_default or self.name != self.default_name else ""

    @staticmethod
    def class_names(trainer: Trainer, classes: int) -> list[str]:
        """Names of the classes: those of the datamodule, where it has as many as the model has logits, else numbers."""
        names = DataFacts(trainer.datamodule).class_names
        return list(names) if names and len(names) == classes else [str(number) for number in range(classes)]

    @property
    def state_key(self) -> str:
        """Distinct for callbacks of one class with different names, so that both resume."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict:
        """The last result and the history of scalars, so that the report of a resumed run is whole."""
        return {"history": self.history, "result": None if self.result is None else as_state(self.result)}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take the history up again, and in ``fit`` the last result."""
        self.history, self._before = stored_history(state_dict), from_state(state_dict.get("result"))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Evaluate averaged weights where they are averaged, and let a model keep tensors between forwards."""
        put_in_turn(trainer)
        begin_to_beat(trainer)
        # What a model caches under inference mode cannot be used in an attack's graph.
        trainer.validate_loop.inference_mode = trainer.test_loop.inference_mode = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the last result; say so if the evaluation will never run in this fit."""
        self.result = self.result or self._before
        if not trainer.enable_validation:
            rank_zero_warn(
                f"{type(self).__name__} {self.name!r} runs after validation, and this fit has none: it needs a "
                "val_dataloader, a validation_step and limit_val_batches above 0"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try the data and the model with one image: a mistake must not surface after an epoch of training."""
        if trainer.enable_validation and sum(trainer.num_val_batches):
            self._check(trainer, pl_module, "val")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try data and model in ``validate``: what comes before this evaluation may take hours."""
        if trainer.state.fn == "validate":
            self._check(trainer, pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try data and model in ``test``."""
        self._check(trainer, pl_module, "test")

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

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what belongs to the last result."""
        self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what belongs to the result of ``validate``."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what belongs to the result of ``test``."""
        self._write(trainer, pl_module)

    def track(self, trainer: Trainer, items: Collection[Item], title: str) -> Iterator[Item]:
        """Iterate under a progress bar."""
        return track(trainer, items, title)

    def _write(self, trainer: Trainer, model: LightningModule) -> None:
        folder = run_folder(trainer)
        if self.result is not None and trainer.is_global_zero and not trainer.fast_dev_run:
            self.write(trainer, model, folder)

    def _check(self, trainer: Trainer, pl_module: LightningModule, stage: Literal["val", "test"]) -> None:
        with isolate_rng(), leaves_no_trace(pl_module), torch.no_grad():
            images = self.images(trainer, stage)
            with trainer.precision_plugin.forward_context():
                self.check(pl_module, images)

    def _is_due(self, trainer: Trainer) -> bool:
        return (trainer.current_epoch + 1) % self.every_n_epochs == 0 or self._is_last(trainer)

    def _is_last(self, trainer: Trainer) -> bool:
        at_limit = trainer.current_epoch + 1 == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step
        return trainer.state.fn != "fit" or trainer.should_stop or at_limit

    def _run(self, trainer: Trainer, pl_module: LightningModule, stage: Literal["val", "test"]) -> None:
        # Random numbers of a foreign data set, sampler or model must not be taken from those of training.
        with isolate_rng():
            images = self.images(trainer, stage)
            with trainer.precision_plugin.forward_context():
                measured = self.evaluate(trainer, pl_module, images)
            wait_for_every_rank(trainer)  # what one rank does alone may take hours
            self.result = self.results(trainer, measured)
            self.result.warnings[:0] = remarks(pl_module)
            self.result.stage = stage
            self.result.epoch = trainer.current_epoch + 1 if trainer.state.fn == "fit" else 0
            self._log_scalars(trainer, pl_module)
            self._pictured = self.pictures == "never"
            if self.pictures == "always" or self._is_last(trainer):
                self._log_pictures(trainer)

    def _log_scalars(self, trainer: Trainer, pl_module: LightningModule) -> None:
        prefix = f"{self.result.stage}/{self.key_prefix}"
        scalars = {f"{prefix}{key}": float(value) for key, value in self.result.scalars().items()}
        # The model may log such a key itself, of all images and not only of those chosen here: then it is the model's.
        taken = trainer.callback_metrics.keys() - self.history.keys()
        scalars = {key: value for key, value in scalars.items() if key not in taken}
        # Every rank holds the same totals: the mean over ranks changes nothing and lets other callbacks monitor them.
        pl_module.log_dict(scalars, sync_dist=True, batch_size=1)
        for key, value in scalars.items():
            self.history.setdefault(key, []).append([self.result.epoch, value])

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


def scalars_of_epoch(trainer: Trainer) -> dict[str, float]:
    """Scalars measured in the epoch that is ending; ``trainer.callback_metrics`` also keeps older ones.

    Call in ``on_train_epoch_end`` and on all ranks: a metric that nobody has asked for yet is added up over them.
    """
    epoch = trainer.current_epoch + 1
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    every = trainer.check_val_every_n_epoch or 1
    if epoch % every:
        metrics = {key: value for key, value in metrics.items() if not key.startswith("val")}
    for callback in trainer.callbacks:
        if isinstance(callback, EpochEndEvaluation):
            stale = [key for key, points in callback.history.items() if points[-1][0] != epoch]
            metrics = {key: value for key, value in metrics.items() if key not in stale}
    return metrics
