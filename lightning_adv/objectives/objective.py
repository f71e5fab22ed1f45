"""The base of all training objectives."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import Classifier
from lightning_adv.errors import InputError

__all__ = ["Objective"]


class Objective(ABC):
    """What a training step minimises: ``objective(model, x, y) -> loss, logits``.

    The logits are those of the images the objective classifies, detached, for the training accuracy;
    ``judges`` says whether these images are clean or adversarial.

    Args:
        label_smoothing: share of the label's probability spread over all classes (Szegedy et al., 2016).
    """

    judges: ClassVar[Literal["clean", "robust"]] = "clean"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    @abstractmethod
    def __call__(self, model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (a scalar with a graph) and logits [N, K] of a batch.

        Args:
            model: images [N, C, H, W] in [0, 1] to logits [N, K], in training mode.
            x: images.
            y: [N] labels.
        """

    def at_epoch(self, epoch: float) -> None:  # noqa: B027 - most objectives have no schedule
        """Told before each step how many epochs are done, with fraction; schedules such as an eps warm-up listen."""

    def cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy in float32, with the label smoothing."""
        return F.cross_entropy(logits.float(), y, label_smoothing=self.label_smoothing)
