"""A bar for long evaluations, inside the trainer's own progress display."""

from collections.abc import Collection, Iterator
from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar

__all__ = ["track"]

Item = TypeVar("Item")


def track(trainer: Trainer, items: Collection[Item], title: str) -> Iterator[Item]:
    """Iterate over ``items`` under a bar nested in the trainer's rich display.

    Other displays are left alone: a second bar beneath them would garble the terminal.
    """
    bar = trainer.progress_bar_callback
    progress = bar.progress if isinstance(bar, RichProgressBar) and bar.is_enabled else None
    if progress is None:
        yield from items
        return
    task = progress.add_task(title, total=len(items))
    try:
        for item in items:
            yield item
            progress.update(task, advance=1)
            bar.refresh()
    finally:
        progress.remove_task(task)
