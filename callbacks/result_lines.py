"""What a pass over validation or test images found, as text."""

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_adv.callbacks.evaluation import EpochEndEvaluation
from lightning_adv.evaluation.progress import Tells, say
from lightning_adv.results.lines import fitted, lines
from lightning_adv.results.result import joint_warnings
from lightning_adv.results.shares import percent
from lightning_adv.screen import columns

__all__ = ["ResultLines"]


class ResultLines(Tells, Callback):
    """Prints the results of all evaluations after ``validate`` and ``test``: shares with intervals, and what with.

    The command line adds it in place of the trainer's own table.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print them after ``validate``."""
        if trainer.state.fn == "validate":
            self._print(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print them after ``test``."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.count("/") < 2}
        if not trainer.is_global_zero:
            return
        shown = {key: percent(value) if key.endswith("accuracy") else f"{value:.3f}" for key, value in metrics.items()}
        said = fitted([f"{key} {value}" for key, value in shown.items()], columns())
        results = [each.result for each in trainer.callbacks if isinstance(each, EpochEndEvaluation) and each.result]
        for result, warnings in zip(results, joint_warnings(results), strict=True):
            said += lines(result, warnings, columns())
        say(trainer, "\n".join(said))
