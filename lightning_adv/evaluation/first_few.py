"""A few images of an evaluation, kept to be looked at."""

import torch
from torch import Tensor

__all__ = ["FirstFew"]


class FirstFew:
    """The first rows of tensors that come batch by batch, on the CPU.

    Args:
        limit: rows that are kept.

    Example:
        >>> few = FirstFew(3)
        >>> for batch in (torch.tensor([1, 2]), torch.tensor([3, 4])):
        ...     _ = few.add(batch, batch.double() / 2)
        >>> few.joined()
        [tensor([1, 2, 3]), tensor([0.5000, 1.0000, 1.5000], dtype=torch.float64)]
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._batches: list[list[Tensor]] = []

    @property
    def wanted(self) -> int:
        """Rows that are still missing."""
        return max(0, self.limit - sum(len(batch[0]) for batch in self._batches))

    def add(self, *parts: Tensor) -> list[Tensor] | None:
        """Keep the rows of a batch that are still wanted: parts [N, ...] that belong together; None where none is."""
        wanted = self.wanted
        if not wanted or not len(parts[0]):
            return None
        self._batches.append([part[:wanted].detach().cpu() for part in parts])
        return self._batches[-1]

    def joined(self) -> list[Tensor] | None:
        """The parts of all batches together, None where nothing was kept."""
        return [torch.cat(part) for part in zip(*self._batches, strict=True)] if self._batches else None
