"""Several triggers that lead to one target (Adaptive-Patch, Qi et al., 2023).

t(x) = t_n(... t_1(x))              and a part of it is some of the n, others in every image
"""

from functools import reduce

import torch
from torch import Tensor

from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.backdoors.trigger import ImageShape, Trigger, lowest
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images

__all__ = ["Several"]


class Several(Trigger):
    """Triggers one on another, of which a part is a choice of some of them (Qi et al., 2023).

    Args:
        triggers: in the order in which they are put on.

    Raises:
        InputError: no trigger.

    Example:
        >>> from lightning_adv.backdoors import Patch
        >>> trigger = Several([Patch(size=1, place="top_left"), Patch(size=1)])
        >>> x = torch.zeros(2, 1, 2, 2)
        >>> trigger(x).sum(), trigger.part(x, 0.5, seed=0, index=torch.arange(2)).sum()
        (tensor(4.), tensor(2.))
    """

    def __init__(self, triggers: list[Trigger]) -> None:
        if not triggers:
            raise InputError("Several needs at least one trigger")
        self.triggers = triggers

    def apply(self, x: Tensor) -> Tensor:
        """All of them."""
        return reduce(lambda x, trigger: trigger.apply(x), self.triggers, x)

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels that any of them may change, bool [1, H, W]."""
        return torch.stack([trigger.support(shape) for trigger in self.triggers]).any(dim=0)

    def part(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Images [N, C, H, W] that carry a fresh choice of the triggers each, the same number in every image."""
        check_images(x)
        self.check(tuple(x.shape[1:]))
        chance = SampleNoise(seed, index).uniform(x.new_zeros(len(x), len(self.triggers)))
        shown = lowest(chance, rate, "triggers")
        for carried, trigger in zip(shown.T, self.triggers, strict=True):
            x = torch.where(carried.view(-1, 1, 1, 1), trigger.apply(x), x)
        return x
