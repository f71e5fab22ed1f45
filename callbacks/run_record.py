"""The resolved configuration of a run: in its folder, in its checkpoints and in every logger."""

import sys
from copy import deepcopy
from functools import cached_property
from itertools import count
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

    ``config.yaml`` says what the last run in its folder was really started with; what others wrote there stays as
    ``config_1.yaml``, ``config_2.yaml`` and so on. A command that is refused before its first step, such as one whose
    checkpoint does not fit, leaves them as they are.
    """

    _path: Path | None = None  # of the file, on rank zero

    @cached_property
    def text(self) -> str:
        """The configuration as YAML."""
        # The parser has made it, and need not judge it again.
        return self.parser.dump(self.config, skip_none=False, skip_validation=True, skip_link_targets=False)

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.config.get("seed_everything")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml`` where there is none, and hand the configuration to the loggers, once, on rank zero."""
        if self.already_saved:
            return
        self.already_saved = True
        folder = Path(trainer.strategy.broadcast(str(trainer.default_root_dir)))
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        self._path = folder / "config.yaml"
        if not self._path.exists():
            self._write()
        settings = yaml.safe_load(self.text) if trainer.loggers else {}
        for logger in trainer.loggers:
            logger.log_hyperparams(deepcopy(settings))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how images are normalised, now that a checkpoint has had its say."""
        if trainer.is_global_zero and (statistics := statistics_of(pl_module)) is not None:
            print(f"note: normalisation: {statistics}", file=sys.stderr, flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml``: the checkpoint fits."""
        self._write()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Both before ``validate``."""
        if trainer.state.fn == "validate":
            self.on_test_start(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Both before ``test``."""
        self.on_fit_start(trainer, pl_module)
        self._write()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Keep the configuration with the weights, so that ``evaluate.py`` needs the checkpoint only."""
        checkpoint[CONFIG_KEY] = self.text

    def _write(self) -> None:
        """Replace the file; what another command wrote into it stays beside it."""
        if self._path is None:
            return
        before = self._path.read_bytes() if self._path.exists() else None
        if before not in (None, self.text.encode()):
            number = next(k for k in count(1) if not self._path.with_name(f"config_{k}.yaml").exists())
            replace_atomically(self._path.with_name(f"config_{number}.yaml"), before)
        replace_atomically(self._path, self.text)


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run; call on all ranks.

    That of the command line; without it, of the first logger that has one, else ``default_root_dir``.
    """
    if any(isinstance(callback, RunRecord) for callback in trainer.callbacks):
        return Path(trainer.strategy.broadcast(str(trainer.default_root_dir)))
    own = next((logger.log_dir for logger in trainer.loggers if getattr(logger, "log_dir", None)), None)
    save = next((logger.save_dir for logger in trainer.loggers if logger.save_dir), None)
    return Path(trainer.strategy.broadcast(str(own or save or trainer.default_root_dir)))
