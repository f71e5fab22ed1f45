"""The report of a run: what the evaluations measured, as a page, as JSON and as pictures."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.parameter import is_lazy

from lightning_adv.callbacks.evaluation import EpochEndEvaluation, scalars_of_epoch
from lightning_adv.callbacks.run_record import RunRecord, run_folder
from lightning_adv.callbacks.time_budget import TimeBudget
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.history import stored_history
from lightning_adv.evaluation.progress import say
from lightning_adv.interruption import Interrupted
from lightning_adv.models import statistics_of
from lightning_adv.models.folders import is_onnx, weight_sums
from lightning_adv.models.zoo import located
from lightning_adv.modules import ClassifierModule
from lightning_adv.reports.robustbench import Submission

if TYPE_CHECKING:
    from lightning_adv.reports.run import Code, RunInfo
    from lightning_adv.results.weights_file import FileResult

__all__ = ["Report"]

UNASKED = "no evaluation of this run asks it"
UNAFFORDABLE = "the time did not suffice, as listed below"
NO_GRADIENT = "the searches for a trigger need gradients, which an ONNX file does not give"
HISTORY_PREFIXES = ("train/", "val/", "test/")


class Report(Callback):
    """Writes ``report/index.html``, ``results.json`` and PNGs after fit, validate and test, also when interrupted.

    It collects the latest typed result of every evaluation callback of the trainer and the history of the scalars. Both
    are in the checkpoint: a run that is gone on with when it is finished already writes the same report again, with the
    provenance of the process that trained.

    Args:
        title: heading of the page; default the names of model and data.
        baselines: name to the ``results.json`` of another run, set beside this one's figures.
        folder: where to write; default ``report`` in the run's folder.
        audit: ask the file of the weights, too, what it holds; the page begins with three questions and their answers.
        robustbench: what only you know of the model, for the ``model_info.json`` that AutoAttack leaves.
        self_contained: put pictures and figures into the page, too, so that it can be sent as one file.

    Raises:
        InputError: a baseline that is not there or not a ``results.json`` of this project.
    """

    def __init__(
        self,
        title: str | None = None,
        baselines: dict[str, str] | None = None,
        folder: str | None = None,
        audit: bool = False,
        robustbench: Submission | None = None,
        self_contained: bool = False,
    ) -> None:
        super().__init__()
        self.audit, self.robustbench, self.self_contained = audit, robustbench, self_contained
        self.title, self.baselines, self.folder = title, dict(baselines or {}), folder
        self.history: dict[str, list[list[float]]] = {}
        self.started = datetime.now(UTC)
        self.path: Path | None = None
        self._trained = False
        self._code: Code | None = None
        self._weights: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the baselines now: a wrong path must not surface after hours of training."""
        from lightning_adv.reports.run import code_in
        from lightning_adv.reports.storage import read_results

        for name, path in self.baselines.items():
            if not Path(path).exists():
                raise InputError(f"baseline {name!r} of Report: there is no {path}; run that baseline first")
            read_results(path)
        self.path = Path(self.folder) if self.folder else run_folder(trainer) / "report"
        if trainer.is_global_zero and self._code is None:
            self._code = code_in(".")  # now: a run of hours may see another commit before it ends

    def state_dict(self) -> dict:
        """The history, so that the curves of a resumed run are whole."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take the history up again."""
        self.history = stored_history(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is something to train: a run that was finished already has nothing."""
        self._trained = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what was measured in this epoch; the checkpoint of its end holds it."""
        for key, value in scalars_of_epoch(trainer).items():
            if key.startswith(HISTORY_PREFIXES) and not key.endswith("_step"):
                self.history.setdefault(key, []).append([trainer.current_epoch + 1, value])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of the training run."""
        self._write(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note before ``validate`` which file was loaded: it may be that of a run that goes on, and writes it again."""
        if trainer.state.fn == "validate":
            self.on_test_start(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same before ``test``."""
        path = self._weights_file(trainer)
        if trainer.is_global_zero and path is not None:
            self._weights = weight_sums(path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of ``validate``."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of ``test``."""
        self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what this run has measured before it ended, whatever it ended by."""
        if self._results(trainer) and not self._measured_more_before(trainer):
            try:
                self._write(trainer, pl_module, ended=_ended(trainer, exception))
            except InputError as error:  # such as a full disk, which may be what the run ended by
                sys.stderr.write(f"no report of what was measured: {error}\n")

    def _measured_more_before(self, trainer: Trainer) -> bool:
        """Whether an earlier evaluation into the same folder left a report with more than this one has so far."""
        from lightning_adv.reports.storage import read_results

        if trainer.state.fn == "fit":
            return False
        try:
            before = read_results(self.path)
        except InputError:
            return False
        return before["run"]["ended"] is None or len(before["sections"]) > len(self._results(trainer))

    def _results(self, trainer: Trainer) -> list:
        evaluations = [each for each in trainer.callbacks if isinstance(each, EpochEndEvaluation)]
        return [each.result for each in evaluations if each.result is not None]

    def _weights_file(self, trainer: Trainer) -> str | None:
        """File or folder that the weights are from, if they are from one."""
        record = _record(trainer)
        weights = record.config.get("model.init_args.weights") if record else None
        return trainer.ckpt_path or (str(located(weights)) if weights else None)

    def _file(self, trainer: Trainer, model: LightningModule) -> list["FileResult"]:
        """What that file holds."""
        from lightning_adv.models.contents import files_in, inspect_file, left_out
        from lightning_adv.results.weights_file import FileResult

        path = self._weights_file(trainer)
        if path is None:
            return []
        return [
            FileResult(
                title=f"The file {file.name}", stage="test", contents=inspect_file(file), left_out=left_out(file, model)
            )
            for file in files_in(path)
        ]

    def _unasked(self, trainer: Trainer, info: "RunInfo") -> str:
        path = self._weights_file(trainer)
        return NO_GRADIENT if path and is_onnx(path) else UNAFFORDABLE if info.cuts else UNASKED

    def _provenance(self, trainer: Trainer, model: LightningModule, ended: str | None) -> "RunInfo":
        from lightning_adv.reports.run import run_info

        record, data = _record(trainer), DataFacts(trainer.datamodule)
        process = run_info(
            record.seed if record else None,
            self.path.parent,
            self.started,
            finished=None if ended else datetime.now(UTC),
            ended=ended,
            code=self._code,
        )
        return replace(
            process,
            preparation=data.preparation,
            normalisation=statistics_of(model),
            model=_architecture(model, record),
            parameters=sum(each.numel() for each in model.parameters() if not is_lazy(each)),
            weights=self._weights,
            data=data.name,
            cuts=[cut for each in trainer.callbacks if isinstance(each, TimeBudget) for cut in each.cuts],
        )

    def _write(self, trainer: Trainer, pl_module: LightningModule, ended: str | None = None) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run or self.path is None:
            return
        from lightning_adv.reports.html import write_report
        from lightning_adv.reports.told import finished_run

        record = _record(trainer)
        repeated = trainer.state.fn == "fit" and not self._trained and ended is None
        info = (finished_run(self.path) if repeated else None) or self._provenance(trainer, pl_module, ended)
        page = write_report(
            self.path,
            title=self.title or _title(info),
            sections=[*(self._file(trainer, pl_module) if self.audit else []), *self._results(trainer)],
            histories={key: [(int(epoch), value) for epoch, value in points] for key, points in self.history.items()},
            baselines=self.baselines,
            run=info,
            config_yaml=record.text if record else "",
            unasked=(ended or self._unasked(trainer, info)) if self.audit else None,
            submission=self.robustbench,
            self_contained=self.self_contained,
        )
        say(trainer, f"report: {page}")


def _record(trainer: Trainer) -> RunRecord | None:
    return next((each for each in trainer.callbacks if isinstance(each, RunRecord)), None)


def _architecture(model: LightningModule, record: RunRecord | None) -> str:
    """Name of the network, its class or folder, where anybody tells it; else the model's class."""
    told = model.hparams.get("backbone") or (record and record.config.get("model.init_args.backbone"))
    told = told.get("class_path") if isinstance(told, Namespace) else told
    if isinstance(told, str):
        return told
    return model.network if isinstance(model, ClassifierModule) else type(model).__name__


def _title(info: "RunInfo") -> str:
    """Model and data; those of a stranger's module without the path to them."""
    names = (
        each and (each.rpartition(".")[2] if each.replace(".", "").isidentifier() else each)
        for each in (info.model, info.data)
    )
    return " on ".join(filter(None, names))


def _ended(trainer: Trainer, exception: BaseException) -> str:
    """How a run ended that did not finish, and how far it came."""
    how = "interrupted" if isinstance(exception, (Interrupted, KeyboardInterrupt)) else "ended by an error"
    done, planned = trainer.fit_loop.epoch_progress.current.processed, trainer.max_epochs or -1
    if trainer.state.fn != "fit":
        return how
    return f"{how}, {done} of {planned} epochs" if planned > 0 else f"{how}, {trainer.global_step} steps"
