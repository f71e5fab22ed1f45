"""The order of a trainer's callbacks, which decides what each of them finds."""

from collections.abc import Iterable

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

__all__ = ["in_turn"]


def in_turn(callbacks: Iterable[Callback]) -> list[Callback]:
    """Evaluations and the like, then weight averaging, then the checkpoints that save the state of both.

    Weight averaging puts the training weights back in the hook in which evaluations run: they come before it.
    """
    return sorted(
        callbacks, key=lambda each: 2 * isinstance(each, Checkpoint) or int(isinstance(each, WeightAveraging))
    )
