"""How far a long evaluation is: a bar inside the trainer's own display, or a line now and then where there is none."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import Progress

__all__ = ["Tells", "say", "track"]

Item = TypeVar("Item")
SECONDS = 30.0
"""Between two lines."""


class Tells:
    """Of callbacks that print what goes on: in their trainer, long evaluations say how far they are."""


def say(trainer: Trainer, text: str) -> None:
    """Print lines above the trainer's bars, if it shows some.

    Rich draws them from a thread of its own: a drawing in the midst of a print would leave a bar behind for good.
    """
    progress = _display(trainer)
    with progress.live._lock if progress else nullcontext():
        print(text, flush=True)


def track(
    trainer: Trainer, items: Collection[Item], title: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Item]:
    """Iterate over ``items`` under a bar nested in the trainer's rich display, or with a line every half minute.

    Other displays are left alone: a second bar beneath them would garble the terminal.

    Args:
        trainer: whose display it is; lines are printed where it has a callback that tells.
        items: of this rank.
        title: what is done with them.
        clock: gives seconds.
    """
    progress = _display(trainer)
    if progress is None:
        tells = trainer.is_global_zero and any(isinstance(each, Tells) for each in trainer.callbacks)
        yield from _with_lines(items, title, clock) if tells else items
        return
    task = progress.add_task(title, total=len(items))
    try:
        for item in items:
            yield item
            progress.update(task, advance=1)
            trainer.progress_bar_callback.refresh()
    finally:
        progress.remove_task(task)


def _display(trainer: Trainer) -> Progress | None:
    bar = trainer.progress_bar_callback
    return bar.progress if isinstance(bar, RichProgressBar) and bar.is_enabled else None


def _with_lines(items: Collection[Item], title: str, clock: Callable[[], float]) -> Iterator[Item]:
    began = said = clock()
    for done, item in enumerate(items, 1):
        yield item
        now = clock()
        if now - said >= SECONDS and done < len(items):
            left = (len(items) - done) * (now - began) / done
            spent, left = (timedelta(seconds=round(each)) for each in (now - began, left))
            print(f"{title}: {done} of {len(items)} batches in {spent}, about {left} left", flush=True)
            said = now
