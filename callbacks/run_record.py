"""The resolved configuration of a run: in its folder, in its checkpoints and in every logger."""

import sys
from functools import cached_property
from pathlib import Path

import yaml
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import SaveConfigCallback

from lightning_adv.files import replace_atomically
from lightning_adv.models import statistics_of

__all__ = ["CONFIG_KEY", "RunRecord", "run_folder"]

CONFIG_KEY = "lightning_adv_config"
"""Where a checkpoint keeps the configuration, as YAML text: plain data that loads without unpickling."""


class RunRecord(SaveConfigCallback):
    """Saves the configuration as the command line resolved it; added to every run by the command line.

    A resumed run overwrites ``config.yaml`` with what it was really started with.
    """

    @cached_property
    def text(self) -> str:
        """The configuration as YAML."""
        return self.parser.dump(self.config, skip_none=False, skip_link_targets=False)

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.config.get("seed_everything")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml`` and hand the configuration to the loggers, once, on rank zero."""
        if self.already_saved:
            return
        self.already_saved = True
        folder = Path(trainer.strategy.broadcast(str(trainer.default_root_dir)))
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        replace_atomically(folder / "config.yaml", self.text)
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(self.text))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how images are normalised, now that a checkpoint has had its say."""
        if trainer.is_global_zero and (statistics := statistics_of(pl_module)) is not None:
            print(f"note: normalisation: {statistics}", file=sys.stderr, flush=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same before ``validate``."""
        if trainer.state.fn == "validate":
            self.on_fit_start(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same before ``test``."""
        self.on_fit_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Keep the configuration with the weights, so that ``evaluate.py`` needs the checkpoint only."""
        checkpoint[CONFIG_KEY] = self.text


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run; call on all ranks.

    That of the command line; without it, of the first logger that has one, else ``default_root_dir``.
    """
    if any(isinstance(callback, RunRecord) for callback in trainer.callbacks):
        return Path(trainer.strategy.broadcast(str(trainer.default_root_dir)))
    own = next((logger.log_dir for logger in trainer.loggers if getattr(logger, "log_dir", None)), None)
    save = next((logger.save_dir for logger in trainer.loggers if logger.save_dir), None)
    return Path(trainer.strategy.broadcast(str(own or save or trainer.default_root_dir)))
