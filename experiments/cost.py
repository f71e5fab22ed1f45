"""What something costs: the passes that it asks of a classifier, and its seconds beside those of others."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["Counted", "in_turn", "quickest", "ratio", "seconds"]

Key = TypeVar("Key")
Work = Callable[[], object]


class Counted(nn.Module):
    """A classifier that counts the images it sees forwards and the images whose gradient it is asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()  # a peer that puts a module's mode back must find this one in eval mode
        self.forwards = self.backwards = 0

    def forward(self, image: Tensor) -> Tensor:
        """Logits; notes the passes."""
        self.forwards += len(image)
        logits = self.model(image)
        if logits.requires_grad:
            logits.register_hook(self._note)
        return logits

    def _note(self, grad: Tensor) -> None:
        self.backwards += len(grad)


def seconds(work: Work, clock: Callable[[], float] = time.process_time) -> float:
    """How long a work takes by a clock; CPU seconds of this process, unless told otherwise."""
    began = clock()
    work()
    return clock() - began


def quickest(work: Work, runs: int = 3, clock: Callable[[], float] = time.process_time) -> float:
    """The shortest of a few runs, in seconds."""
    return min(seconds(work, clock) for _ in range(runs))


def in_turn(timed: Mapping[Key, Callable[[], float]], rounds: int, warm_up: int = 0) -> dict[Key, list[float]]:
    """Seconds of each of several works; all run in each round, so that a slow moment of the machine meets all.

    Args:
        timed: works that say how long they took.
        rounds: that count.
        warm_up: rounds before, which do not.
    """
    taken: dict[Key, list[float]] = {name: [] for name in timed}
    for number in range(warm_up + rounds):
        for name, work in timed.items():
            took = work()
            if number >= warm_up:
                taken[name].append(took)
                print(name, f"{took:.4f} s", flush=True)
    return taken


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How often the second goes into the first: median over the rounds of :func:`in_turn`."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
