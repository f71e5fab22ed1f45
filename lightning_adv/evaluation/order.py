"""The order of a trainer's callbacks, which decides what each of them finds."""

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

__all__ = ["do_without", "put_in_turn"]


def do_without(trainer: Trainer, callback: Callback) -> None:
    """Let a callback hear of nothing more."""
    trainer.callbacks = [each for each in trainer.callbacks if each is not callback]


def put_in_turn(trainer: Trainer) -> None:
    """Evaluations and the like, then weight averaging, then the checkpoints that save the state of both.

    Weight averaging puts the training weights back in the hook in which evaluations run: they come before it.
    """
    trainer.callbacks = sorted(
        trainer.callbacks, key=lambda each: 2 * isinstance(each, Checkpoint) or int(isinstance(each, WeightAveraging))
    )
