"""Pictures and tables to every logger of a trainer, each in the way it has."""

import csv
import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from lightning_adv.files import replace_atomically
from lightning_adv.names import key_path
from lightning_adv.results.result import Cell, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["log_figure", "log_table"]


def log_figure(trainer: Trainer, key: str, figure: "Figure") -> None:
    """One picture under ``key``: W&B image, TensorBoard image, or a PNG in the CSV logger's ``media`` folder.

    Does nothing except on rank zero.
    """
    if not trainer.is_global_zero or not trainer.loggers:
        return
    pixels, step = _pixels(figure), trainer.global_step  # drawn once: that takes longer than all else
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key_path(key), [pixels], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, pixels, global_step=step, dataformats="HWC")
        elif isinstance(logger, CSVLogger):
            path = _media(logger, key, step, ".png")
            replace_atomically(path, partial(Image.fromarray(pixels).save, format="png"))


def log_table(trainer: Trainer, key: str, table: Table) -> None:
    """One table under ``key``: W&B table, TensorBoard text, or a CSV file in the CSV logger's ``media`` folder.

    Does nothing except on rank zero.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            columns = [_one_type(list(column)) for column in zip(*table.rows, strict=True)]
            rows = [list(row) for row in zip(*columns, strict=True)]
            logger.log_table(key_path(key), columns=table.columns, data=rows, step=trainer.global_step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(key, _markdown(table), global_step=trainer.global_step)
        elif isinstance(logger, CSVLogger):
            text = io.StringIO(newline="")
            csv.writer(text).writerows([table.columns, *table.rows])
            replace_atomically(_media(logger, key, trainer.global_step, ".csv"), text.getvalue())


def _media(logger: Logger, key: str, step: int, suffix: str) -> Path:
    return Path(logger.log_dir) / "media" / f"{key_path(key)}_{step:06d}{suffix}"


def _one_type(column: list[Cell]) -> list[Cell]:
    """A column as W&B takes it: numbers with gaps, or texts."""
    if any(isinstance(cell, str) for cell in column):
        return ["" if cell is None else str(cell) for cell in column]
    return [None if cell is None else float(cell) for cell in column]


def _pixels(figure: "Figure") -> "np.ndarray":
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    cells = [
        [f"{cell:.4g}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row]
        for row in lines
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
