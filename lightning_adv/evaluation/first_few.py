"""A few images of an evaluation, kept to be looked at."""

import torch
from torch import Tensor

__all__ = ["FirstFew"]


class FirstFew:
    """The first rows of tensors that come batch by batch, on the CPU.

    Args:
        limit: rows that are kept, of each of two kinds where there are two.

    Example:
        >>> few = FirstFew(3)
        >>> for batch in (torch.tensor([1, 2]), torch.tensor([3, 4])):
        ...     _ = few.add(batch, batch.double() / 2)
        >>> few.joined()
        [tensor([1, 2, 3]), tensor([0.5000, 1.0000, 1.5000], dtype=torch.float64)]
        >>> few = FirstFew(1)
        >>> _ = few.add(torch.tensor([1, 2, 3]), kind=torch.tensor([True, True, False]))
        >>> few.joined()
        [tensor([1, 3])]
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = {True: 0, False: 0}
        self._batches: list[list[Tensor]] = []

    @property
    def wanted(self) -> int:
        """Rows that are still missing where all are of one kind."""
        return self.limit - self._held[False]

    def add(self, *parts: Tensor, kind: Tensor | None = None) -> list[Tensor] | None:
        """Keep the rows of a batch that are still wanted; None where none is.

        Args:
            *parts: [N, ...] that belong together.
            kind: [N] bool; None for one kind alone.
        """
        if all(held >= self.limit for held in self._held.values()):
            return None
        kinds = torch.zeros(len(parts[0]), dtype=torch.bool) if kind is None else kind.cpu()
        rows = [(kinds == each).nonzero().flatten()[: self.limit - held] for each, held in self._held.items()]
        self._held = {each: held + len(new) for (each, held), new in zip(self._held.items(), rows, strict=True)}
        wanted = torch.cat(rows).sort().values
        if not len(wanted):
            return None
        self._batches.append([part.detach()[wanted.to(part.device)].cpu() for part in parts])
        return self._batches[-1]

    def joined(self) -> list[Tensor] | None:
        """The parts of all batches together, None where nothing was kept."""
        return [torch.cat(part) for part in zip(*self._batches, strict=True)] if self._batches else None
