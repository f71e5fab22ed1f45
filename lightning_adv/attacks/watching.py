"""Who looks on while attacks work: they hear of every forward, and of each stage of an ensemble as it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_adv.attacks.result import Stage

__all__ = ["Watcher", "announce_forward", "announce_stage", "part", "watched_by"]


class Watcher:
    """Hears what the attacks of this process do; what it is not interested in it leaves."""

    def forward(self, place: tuple[str, ...]) -> None:
        """The model has answered once more.

        Args:
            place: names of the attack, of the stage of an ensemble that it is in, and so on inwards.
        """

    def stage_ended(self, place: tuple[str, ...], stage: Stage) -> None:
        """A stage has ended of the ensemble at ``place``."""


_watchers: list[Watcher] = []
_place: list[str] = []


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Inside, the watcher hears of all attacks.

    Example:
        >>> class Count(Watcher):
        ...     forwards = 0
        ...
        ...     def forward(self, place):
        ...         self.forwards += 1
        >>> from lightning_adv.attacks import FGSM
        >>> model, count = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), Count()
        >>> with watched_by(count):
        ...     result = FGSM(eps=0.1).run(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> count.forwards
        2
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Inside, what happens is part of the attack or stage of this name."""
    _place.append(name)
    try:
        yield
    finally:
        _place.pop()


def announce_forward() -> None:
    """Tell that the model has answered."""
    for each in _watchers:
        each.forward(tuple(_place))


def announce_stage(stage: Stage) -> None:
    """Tell that a stage has ended of the ensemble that is at work."""
    for each in _watchers:
        each.stage_ended(tuple(_place), stage)
