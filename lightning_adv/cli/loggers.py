"""Loggers of a run write into its folder."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import Namespace
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_adv.cli.runs import is_first_rank
from lightning_adv.files import replace_atomically

__all__ = ["default_loggers", "finish_wandb", "loggers_in"]

HERE = (None, ".")
"""What stands for the run's folder as a logger's ``save_dir`` in a configuration."""

WANDB_ID = "wandb_id.txt"


def default_loggers(folder: Path) -> list[Logger]:
    """TensorBoard and CSV files; no account needed."""
    return [
        TensorBoardLogger(str(folder), name="", version=""),
        CSVLogger(str(folder), name="csv"),  # a version each time: a resumed run must not delete the rows of its start
    ]


@contextmanager
def loggers_in(folder: Path, loggers: object) -> Iterator[None]:
    """While they are built, the configured loggers point at the run's folder and W&B at the run's own id.

    The configuration itself stays free of both: it describes runs elsewhere, too.
    """
    configs = [each for each in _as_list(loggers) if isinstance(each, Namespace) and "init_args" in each]
    before = [each.init_args.clone() for each in configs]
    for config in configs:
        if config.init_args.get("save_dir") in HERE:
            config.init_args.save_dir = str(folder)
        # In a sweep the agent hands out the ids.
        in_sweep = "WANDB_SWEEP_ID" in os.environ or "WANDB_RUN_ID" in os.environ
        if config.class_path.endswith(".WandbLogger") and config.init_args.get("id") is None and not in_sweep:
            config.init_args.id = _wandb_id(folder)
    try:
        yield
    finally:
        for config, arguments in zip(configs, before, strict=True):
            config.init_args = arguments


def finish_wandb() -> None:
    """Close a W&B run, so that another run in the same process opens its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _as_list(loggers: object) -> list:
    return loggers if isinstance(loggers, list) else [loggers]


def _wandb_id(folder: Path) -> str | None:
    file = folder / WANDB_ID
    if not file.is_file() and is_first_rank():  # only rank zero has a W&B run
        replace_atomically(file, secrets.token_hex(4))
    return file.read_text().strip() if file.is_file() else None
