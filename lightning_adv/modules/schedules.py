"""A learning rate that rises, then falls, over the whole run.

lr_t = lr (start + (1 - start) r(t / w))   for t < w,   lr (end + (1 - end) f((t - w) / (1 - w)))   after it
"""

import math
from typing import Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_adv.errors import InputError

__all__ = ["WarmUp"]

Shape = Literal["cosine", "linear"]


class WarmUp(LRScheduler):
    """Rises for a share of the run and falls to its end; as many steps as the run has, which the module tells.

    A linear warm-up before a cosine, by default; with ``warmup: 0.5, fall: linear`` the cycle of fast training, with
    ``rise: cosine`` the one-cycle schedule (Smith and Topin, Super-Convergence, 2019). Every parameter group keeps its
    own rate, times the same factor. A run that is gone on with for longer follows the longer schedule.

    Args:
        optimizer: whose rates are the highest ones.
        warmup: share of the run in which the rate rises.
        rise: along a "linear" or "cosine" course.
        fall: the same.
        start: share of the rate that the first step has; above 0 where the schedule steps every epoch.
        end: share that the rate comes near in the end.
        span: steps of the schedule in the whole run; default told by ``ClassifierModule``.

    Raises:
        InputError: a share outside [0, 1], an unknown course; when stepped, no span.

    Example:
        >>> import torch
        >>> schedule = WarmUp(torch.optim.SGD([torch.zeros(1)], lr=1.0), warmup=0.5, fall="linear", start=0.0, span=4)
        >>> [round(schedule.factor(step / 4), 2) for step in range(4)]
        [0.0, 0.5, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: float = 0.05,
        rise: Shape = "linear",
        fall: Shape = "cosine",
        start: float = 0.04,
        end: float = 0.0,
        span: int | None = None,
    ) -> None:
        if not all(0 <= share <= 1 for share in (warmup, start, end)):
            raise InputError(f"warmup, start and end are shares in [0, 1], got {warmup}, {start} and {end}")
        if not {rise, fall} <= {*get_args(Shape)}:
            raise InputError(f"rise and fall must be cosine or linear, got {rise!r} and {fall!r}")
        self.warmup, self.rise, self.fall, self.start, self.end, self.span = warmup, rise, fall, start, end, span
        super().__init__(optimizer)

    def factor(self, share: float) -> float:
        """What the highest rate is multiplied by after a share of the run."""
        if share < self.warmup:
            return self.start + (1 - self.start) * _course(self.rise, share / self.warmup)
        left = max(0.0, 1 - share) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.end + (1 - self.end) * _course(self.fall, left)

    def get_lr(self) -> list[float]:
        """The rate of each parameter group."""
        if self.last_epoch and self.span is None:
            raise InputError("WarmUp follows the length of the run: give it span, the number of its steps")
        factor = self.factor(self.last_epoch / self.span if self.span else 0.0)
        return [rate * factor for rate in self.base_lrs]

    def state_dict(self) -> dict[str, object]:
        """Where it stands; not the length of the run, which is the run's own."""
        return {name: value for name, value in super().state_dict().items() if name != "span"}


def _course(shape: Shape, share: float) -> float:
    return share if shape == "linear" else (1 - math.cos(math.pi * share)) / 2
