"""How long a model takes for an image, and how many forwards and backwards an attack asks it for."""

from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from lightning_adv.asking import Classifier, logits_of
from lightning_adv.attacks import Attack
from lightning_adv.errors import InputError

__all__ = ["Pace", "Passes", "measure_pace", "passes_of"]

ENOUGH = 1.0
"""Seconds of a pass that is long enough to measure; after a shorter one there are more images."""
MORE = 32
"""How many times as many: where two threads share a busy core, a pass of few images takes as long as one of many."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes for one image of a batch: forward alone, and with the way back, if it has one."""

    forward: float
    both: float


@dataclass(frozen=True)
class Passes:
    """What an attack asks of a model for one image that withstands it to the end."""

    forwards: int
    backwards: int

    def seconds(self, pace: Pace) -> float:
        """At the pace of a model."""
        return self.backwards * pace.both + max(0, self.forwards - self.backwards) * pace.forward


def measure_pace(model: Classifier, image: Tensor) -> Pace:
    """Time the model on images [N, C, H, W], on so many of them that the clock can tell.

    The first pass of a size pays for what is done once, such as memory and the choice of algorithms: it does not count.
    The mean of those that do is what the next ones take on a busy machine, too; the fastest is not.
    """
    count, backward = 1, _gives_gradient(model, image[:1])
    both = _mean(model, image[:count], backward)
    while both < ENOUGH and count < len(image):
        count = min(len(image), MORE * count)
        both = _mean(model, image[:count], backward)
    return Pace(_mean(model, image[:count], backward=False) / count, both / count)


def passes_of(attack: Attack, image: Tensor, classes: int, most: int) -> Passes:
    """Count them on a model that nothing fools, for one image [1, C, H, W], or up to ``most`` forwards."""
    firm = _Firm(image, classes, most).to(image.device)
    with suppress(_Enough):
        attack.run(firm, image[:1], torch.zeros(1, dtype=torch.long, device=image.device))
    return Passes(firm.forwards, firm.backwards)


class _Enough(Exception):
    """Nobody needs to know how many more."""


class _Firm(nn.Module):
    """Says class 0 whatever the image, with a gradient that is zero nowhere; counts the images of its passes."""

    def __init__(self, image: Tensor, classes: int, most: int) -> None:
        super().__init__()
        self.forwards = self.backwards = 0
        self.most = most
        self.register_buffer("always", torch.nn.functional.one_hot(torch.tensor(0), classes) * 20.0)
        self.register_buffer("slope", torch.linspace(-1, 1, classes))
        self.register_buffer("weight", torch.linspace(-1, 1, image[0].numel()) / image[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        if self.forwards > self.most:
            raise _Enough
        self.forwards += len(x)
        logits = self.always + (x.flatten(1) @ self.weight)[:, None] * self.slope
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, grad: Tensor) -> None:
        self.backwards += len(grad)


def _gives_gradient(model: Classifier, image: Tensor) -> bool:
    """Whether there is a way back; whatever else is wrong with the model, the next forward says."""
    try:
        _seconds(model, image, backward=True)
    except InputError:
        return False
    return True


def _mean(model: Classifier, image: Tensor, backward: bool) -> float:
    _, *seconds = (_seconds(model, image, backward) for _ in range(3))
    return sum(seconds) / len(seconds)


def _seconds(model: Classifier, image: Tensor, backward: bool) -> float:
    begin = _now(image.device)
    with torch.inference_mode(False), torch.set_grad_enabled(backward):
        x = image.clone().requires_grad_(backward)
        logits = logits_of(model, x)
        if backward:
            torch.autograd.grad(logits.sum(), x)
    return _now(image.device) - begin


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
