"""The base of all training objectives."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.asking.contract import label_range, refuse_labels
from lightning_adv.attacks import Classifier
from lightning_adv.attacks.labels import as_truth, refuse_no_distributions
from lightning_adv.attacks.losses import expected_nll, refuse_other_classes
from lightning_adv.errors import InputError

__all__ = ["Objective"]

NO_LABEL = -(2**62)


class Objective(ABC):
    """What a training step minimises: ``objective(model, x, y) -> loss, logits``.

    The logits are those of the images the objective classifies, detached, for the training accuracy;
    ``judges`` says whether these images are clean or adversarial.

    Args:
        label_smoothing: share of the label's probability spread over all classes (Szegedy et al., 2016).

    A subclass is :meth:`loss`, and :meth:`craft` where it trains on other images than the given ones; the two are apart
    so that ``AWP`` can take the loss at perturbed weights on images that were crafted once.

    Example:
        >>> class LogitPenalty(Objective):
        ...     def loss(self, model, x, x_adv, y):
        ...         logits = model(x)
        ...         return self.cross_entropy(logits, y) + 0.1 * logits.square().mean(), logits.detach()
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> LogitPenalty()(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))[0].requires_grad
        True
    """

    judges: ClassVar[Literal["clean", "robust"]] = "clean"

    takes_probabilities: bool = True
    """Whether labels may be distributions over the classes [N, K], as mixup makes them."""

    replays: int | None = None
    """Steps that the module itself takes on each batch, with :meth:`after_backward`; None leaves one to the trainer."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self._seen_probabilities = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (a scalar with a graph) and logits [N, K] of a batch.

        Args:
            model: images [N, C, H, W] in [0, 1] to logits [N, K], in training mode.
            x: images.
            y: [N] labels of any integer type, or [N, K] probabilities of the classes where ``takes_probabilities``.

        Raises:
            InputError: labels that are neither, or probabilities where the objective needs classes.
        """
        y = self._checked(as_truth(y, len(x)))
        return self.loss(model, x, self.craft(model, x, y), y)

    def craft(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """The images that :meth:`loss` gets beside the given ones; here the given ones."""
        return x

    @abstractmethod
    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (a scalar with a graph) and logits [N, K] of images ``x`` and crafted images ``x_adv``."""

    def before_training(self) -> None:  # noqa: B027 - most objectives read no file
        """Told once before training begins; what an objective reads is read here, so that no run starts without it.

        Raises:
            InputError: a file that cannot be opened.
        """

    def at_epoch(self, epoch: float) -> None:  # noqa: B027 - most objectives have no schedule
        """Told before each step how many epochs are done, with fraction; schedules such as an eps warm-up listen."""

    def after_backward(self) -> None:  # noqa: B027 - most objectives leave the step to the trainer
        """Told after the backward of each of the ``replays``, before the optimiser's step."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs of an objective with a memory; tensors only."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - most objectives have no memory
        """Take :meth:`state_dict` up again."""

    def cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy in float32, with the label smoothing; classes that the model rules out get no share of it.

        Args:
            logits: [N, K]; -inf for a class that is ruled out.
            y: [N] int64, or [N, K] probabilities.
        """
        if y.dim() == 1 and not self.label_smoothing:
            self._check_labels(logits, y)
            # Without torch's own ignored label, -100: there is no image that a step may leave out in silence.
            return F.cross_entropy(logits.float(), y, ignore_index=NO_LABEL)
        return self.cross_entropies(logits, y).mean()

    def cross_entropies(self, logits: Tensor, y: Tensor) -> Tensor:
        """The cross-entropy of each image [N]; arguments and errors are those of :meth:`cross_entropy`."""
        logits = logits.float()
        return expected_nll(logits, self.truth(logits, y))

    def truth(self, logits: Tensor, y: Tensor) -> Tensor:
        """The distributions [N, K] that the images are to have; arguments and errors as in :meth:`cross_entropy`."""
        self._check_labels(logits, y)
        p = F.one_hot(y, logits.shape[1]).to(logits) if y.dim() == 1 else y
        refuse_other_classes(p, logits)
        possible = (logits != -torch.inf).to(logits)
        even = possible / possible.sum(dim=1, keepdim=True)
        return (1 - self.label_smoothing) * p + self.label_smoothing * even

    def _check_labels(self, logits: Tensor, y: Tensor) -> None:
        if y.dim() == 1 and (known := label_range(y)) is not None:
            refuse_labels(*known, logits.shape[1])

    def _checked(self, y: Tensor) -> Tensor:
        if y.dim() == 1:
            return y
        if not self.takes_probabilities:
            raise InputError(
                f"{type(self).__name__} needs the one class of each image and got probabilities of shape "
                f"{tuple(y.shape)}: leave mixup out, or train with AdversarialTraining or TRADES"
            )
        if not self._seen_probabilities:  # once: each look is a host sync
            self._seen_probabilities = True
            refuse_no_distributions(y)
        return y
