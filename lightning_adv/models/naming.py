"""A published layout of weights as a table: the name of a layer in the file and its name here."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Naming"]


@dataclass(frozen=True)
class Naming:
    """One published layout of weights.

    Args:
        title: where it is from.
        backbone: how to ask for the network, for messages.
        telling: names of weights that every file of this layout holds.
        layers: names of layers in the file -> names here, or of single weights where a layer's are named otherwise.
        unused: layers that the file holds and that no image passes.
        lacking: names of weights of other layouts that include this one.
        reshaped: ends of names here whose numbers stand in the file in another shape.
    """

    title: str
    backbone: str
    telling: tuple[str, ...]
    layers: Mapping[str, str]
    unused: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """How to ask for the network that the names belong to."""
        return f"the names are those of {self.title}: use backbone {self.backbone}"

    def translate(self, name: str) -> str | None:
        """The name here of a weight of the file; None if it belongs to no layer of the table."""
        layer, _, weight = name.rpartition(".")
        for pattern, ours in _compiled(tuple(self.layers.items())):
            if (match := pattern.fullmatch(name)) is not None:
                return match.expand(ours)
            if (match := pattern.fullmatch(layer)) is not None:
                return f"{match.expand(ours)}.{weight}"
        return None


@functools.cache
def _compiled(layers: tuple[tuple[str, str], ...]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(re.escape(theirs).replace(r"\*", r"(\d+)")), _template(ours)) for theirs, ours in layers]


def _template(ours: str) -> str:
    numbers = iter(range(1, 10))
    return re.sub(r"\*", lambda _: rf"\g<{next(numbers)}>", ours)
