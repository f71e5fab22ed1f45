"""Purifiers made of purifiers."""

import torch
from torch import Tensor, nn

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.purifier import Purifier, into_the_box

__all__ = ["Randomized", "Sequential"]

STREAM = 0x5DEECE66D
"""Sets the noise of the parts apart."""


class _Composed(Purifier):
    """Parts in a list.

    Args:
        purifiers: the parts.
        seed: of the noise of all of them, in place of their own.

    Raises:
        InputError: no part.
    """

    def __init__(self, purifiers: list[Purifier], seed: int = 0) -> None:
        super().__init__(seed)
        if not purifiers:
            raise InputError(f"{type(self).__name__} needs at least one purifier")
        self.purifiers = nn.ModuleList(purifiers)

    @property
    def differentiable(self) -> bool:
        """Whether every part is."""
        return all(part.differentiable for part in self.purifiers)

    def extra_repr(self) -> str:
        """Nothing: the parts show themselves."""
        return ""

    def _parted(self, noise: SampleNoise, part: int) -> SampleNoise:
        return SampleNoise(self.seed + STREAM * (part + 1), noise.index, noise.restart)


class Sequential(_Composed):
    """One purifier after the other.

    Its surrogate is that of its parts, one after the other, the exact gradient where a part has one.

    Example:
        >>> from lightning_adv.purifiers import BitDepth, MedianFilter
        >>> Sequential([MedianFilter(3), BitDepth(1)])(torch.rand(1, 1, 4, 4)).unique().numel() <= 2
        True
    """

    @property
    def randomised(self) -> bool:
        """Whether any part is."""
        return any(part.randomised for part in self.purifiers)

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """p_n(... p_1(x))."""
        for number, part in enumerate(self.purifiers):
            x = into_the_box(part.purify_in_chunks(x, self._parted(noise, number)))
        return x

    def surrogate(self, x: Tensor) -> Tensor:
        """s_n(... s_1(x))."""
        for part in self.purifiers:
            x = part(x) if part.differentiable else part.surrogate(x)
        return x


class Randomized(_Composed):
    """One of several purifiers, drawn for every image.

    Its surrogate is the identity; where all parts are differentiable its gradient is exact.

    Example:
        >>> from lightning_adv.purifiers import BitDepth, MedianFilter
        >>> Randomized([MedianFilter(3), BitDepth(1)])(torch.rand(8, 1, 4, 4)).shape
        torch.Size([8, 1, 4, 4])
    """

    randomised = True

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """p_k(x), k uniform."""
        chance = noise.uniform(x.new_empty(len(x), 1))[:, 0]
        chosen = (chance * len(self.purifiers)).long()
        parts = [(chosen == k).nonzero().flatten() for k in range(len(self.purifiers))]
        results = [
            part.purify_in_chunks(x[rows], SampleNoise(self.seed + STREAM * (k + 1), noise.index[rows], noise.restart))
            for k, (part, rows) in enumerate(zip(self.purifiers, parts, strict=True))
            if len(rows)
        ]
        back = torch.cat(parts).argsort()
        return torch.cat(results)[back]
