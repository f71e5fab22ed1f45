"""Time handed out in shares: each part of a run gets its share of what is left when it begins.

What ends early leaves its time to the parts after it, and what takes longer takes it from them.
"""

from collections.abc import Callable

__all__ = ["Allotment", "Part"]


class Allotment:
    """An end, and the parts of a run in the order in which they will begin.

    Args:
        seconds: from now to the end.
        least: seconds that are given away where none are left, so that what was begun has something to show.
        clock: tells seconds.

    Example:
        >>> now = [0.0]
        >>> allotment = Allotment(90.0, 1.0, clock=lambda: now[0])
        >>> first, second = allotment.part(2), allotment.part(1)
        >>> second.planned, first.begin(), first.seconds
        (30.0, None, 60.0)
        >>> now[0] = 15.0
        >>> first.over, second.begin(), second.seconds
        (0.25, None, 75.0)
    """

    def __init__(self, seconds: float, least: float, clock: Callable[[], float]) -> None:
        self.clock, self.least, self.end = clock, least, clock() + seconds
        self.parts: list[Part] = []

    def part(self, share: float) -> "Part":
        """One more, at the end."""
        self.parts.append(Part(self, share))
        return self.parts[-1]

    def of(self, part: "Part", waiting: list["Part"]) -> float:
        """Seconds of a part, where these are all that wait."""
        return max(self.end - self.clock(), self.least) * part.share / sum(each.share for each in waiting)


class Part:
    """A piece of work with a share of the time; see :class:`Allotment`.

    Args:
        allotment: that it is of.
        share: against those of the others.
    """

    def __init__(self, allotment: Allotment, share: float) -> None:
        self.allotment, self.share, self.began, self.seconds = allotment, share, 0.0, 0.0

    def begin(self) -> None:
        """Take the share of the time that is left: the parts before are done."""
        parts = self.allotment.parts
        self.began, self.seconds = self.allotment.clock(), self.allotment.of(self, parts[parts.index(self) :])

    @property
    def planned(self) -> float:
        """Seconds that it will get if all others that have not begun take theirs."""
        waiting = [each for each in self.allotment.parts if not each.seconds or each is self]
        return self.seconds or self.allotment.of(self, waiting)

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return self.allotment.clock() - self.began

    @property
    def over(self) -> float:
        """Share of its seconds that is over."""
        return self.spent / self.seconds
