"""How far a long evaluation is: bars inside the trainer's own display, or a line now and then where there is none."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import Progress, TaskID

from lightning_adv.attacks.watching import Watcher, watched_by

__all__ = ["Tells", "say", "tells", "track"]

Item = TypeVar("Item")
SECONDS = 30.0
"""Between two lines."""
PATIENCE = 1.0
"""Seconds that an item must take for a bar of its own."""


class Tells:
    """Of callbacks that print what goes on: in their trainer, long evaluations say how far they are."""


def tells(trainer: Trainer) -> bool:
    """Whether this process prints what goes on."""
    return trainer.is_global_zero and any(isinstance(each, Tells) for each in trainer.callbacks)


def say(trainer: Trainer, text: str) -> None:
    """Print lines above the trainer's bars, if it shows some.

    Rich draws them from a thread of its own: a drawing in the midst of a print would leave a bar behind for good.
    """
    progress = _display(trainer)
    with progress.live._lock if progress else nullcontext():
        print(text, flush=True)


def track(
    trainer: Trainer,
    items: Collection[Item],
    title: str,
    clock: Callable[[], float] = time.monotonic,
    so_far: Callable[[], str] = str,
) -> Iterator[Item]:
    """Iterate over ``items`` under a bar nested in the trainer's rich display, or with a line every half minute.

    An item that takes long shows, or says, how often an attack in it has asked the model. Other displays are left
    alone: a second bar beneath them would garble the terminal.

    Args:
        trainer: whose display it is; lines are printed where it has a callback that tells.
        items: of this rank.
        title: what is done with them.
        clock: gives seconds.
        so_far: what a line adds about the items that are done.
    """
    progress = _display(trainer)
    if progress is None:
        yield from _with_lines(items, title, clock, so_far) if tells(trainer) else items
        return
    task = progress.add_task(title, total=len(items))
    try:
        for item in items:
            inner = _InnerBar(progress)
            with watched_by(inner):
                yield item
            inner.remove()
            progress.update(task, advance=1)
            trainer.progress_bar_callback.refresh()
    finally:
        progress.remove_task(task)


def _display(trainer: Trainer) -> Progress | None:
    bar = trainer.progress_bar_callback
    return bar.progress if isinstance(bar, RichProgressBar) and bar.is_enabled else None


class _InnerBar(Watcher):
    """A bar beneath that of the items: how often the attack, or its stage, has asked the model about this one."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.began = progress, time.monotonic()
        self.task: TaskID | None = None
        self.place: tuple[str, ...] = ()
        self.forwards = 0

    def forward(self, place: tuple[str, ...]) -> None:
        """Count it."""
        self.forwards = self.forwards + 1 if place == self.place else 1
        self.place = place
        if self.task is None and time.monotonic() - self.began < PATIENCE:
            return
        described = f"  {' '.join(place)} (passes)"
        if self.task is None:
            self.task = self.progress.add_task(described, total=float("inf"))
        self.progress.update(self.task, description=described, completed=self.forwards)

    def remove(self) -> None:
        """The item is done."""
        if self.task is not None:
            self.progress.remove_task(self.task)


class _Lines(Watcher):
    """Lines about items and, where one of them takes long, about the attack in it."""

    def __init__(self, items: int, title: str, clock: Callable[[], float]) -> None:
        self.items, self.title, self.clock = items, title, clock
        self.began = self.said = clock()
        self.done = self.forwards = 0

    def forward(self, place: tuple[str, ...]) -> None:
        """Say how far it is, if nothing has been said for long."""
        self.forwards += 1
        what = " ".join(place) or self.title
        self._say(lambda spent: f"{what}: {self.forwards:,} passes in batch {self.done + 1} of {self.items}, {spent}")

    def item_done(self, so_far: Callable[[], str]) -> None:
        """The same after an item."""
        self.done, self.forwards = self.done + 1, 0
        if self.done < self.items:
            self._say(lambda spent: f"{self.title}: {self.done} of {self.items} batches in {spent}{self._rest(so_far)}")

    def _rest(self, so_far: Callable[[], str]) -> str:
        left = (self.items - self.done) * (self.said - self.began) / self.done
        return f", about {timedelta(seconds=round(left))} left{so_far()}"

    def _say(self, text: Callable[[timedelta], str]) -> None:
        now = self.clock()
        if now - self.said >= SECONDS:
            self.said = now
            print(text(timedelta(seconds=round(now - self.began))), flush=True)


def _with_lines(
    items: Collection[Item], title: str, clock: Callable[[], float], so_far: Callable[[], str]
) -> Iterator[Item]:
    lines = _Lines(len(items), title, clock)
    for item in items:
        with watched_by(lines):
            yield item
        lines.item_done(so_far)
