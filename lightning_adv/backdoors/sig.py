"""A faint sinusoid over the whole image (SIG; Barni et al., 2019).

    x' = clip(x + delta sin(2 pi f j / W))        for column j of W

The attack is clean-label: images of the target class carry it in training and keep their label. The authors train with
a weaker signal than they test with.
"""

import math

import torch
from torch import Tensor

from lightning_adv.attacks.budget import Budget, as_eps, as_text
from lightning_adv.backdoors.perturbation import AdditiveTrigger
from lightning_adv.backdoors.trigger import ImageShape
from lightning_adv.errors import InputError

__all__ = ["SIG"]


class SIG(AdditiveTrigger):
    """Vertical stripes: a sine of the column, the same in every row and channel (Barni et al., 2019).

    Args:
        delta: amplitude in units of [0, 1], a number or a fraction; the paper has 20/255 on traffic signs, others up to
            40/255 on CIFAR-10.
        frequency: f, waves across the image.

    Raises:
        InputError: an amplitude outside (0, 1], a frequency that is not positive.

    Example:
        >>> SIG(delta=0.25, frequency=1)(torch.full((1, 1, 1, 4), 0.5)).flatten()
        tensor([0.5000, 0.7500, 0.5000, 0.2500])
    """

    def __init__(self, delta: Budget = "20/255", frequency: float = 6) -> None:
        self.delta, self.frequency = as_eps(delta, "Linf"), frequency
        if not self.delta or not frequency > 0:
            raise InputError(f"delta and frequency of a sinusoid must be above 0, got {delta} and {frequency}")

    def perturbation(self, shape: ImageShape) -> Tensor:
        """delta sin(2 pi f j / W)."""
        phase = 2 * math.pi * self.frequency / shape[2] * torch.arange(shape[2], dtype=torch.float64)
        return (self.delta * phase.sin()).float().expand(shape)

    def __repr__(self) -> str:
        return f"SIG(delta={as_text(self.delta)}, frequency={self.frequency:g})"
