"""The base of what makes fooling images (Nguyen, Yosinski, Clune, Deep Neural Networks Are Easily Fooled, 2015)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.attacks import Classifier, leaves_no_trace
from lightning_adv.errors import InputError

__all__ = ["Fooling", "FoolingSet", "Task"]

IMAGES_AT_ONCE = 1000


@dataclass(frozen=True)
class FoolingSet:
    """The best fooling image of each class.

    Args:
        images: [K, C, H, W] float32 in [0, 1].
        classes: [K] which each is to be taken for.
        confidences: [K] probability that the model gives that class.
        medians: (generation or step, median confidence over the classes), the first before anything was done.

    Example:
        >>> found = FoolingSet(torch.rand(2, 1, 4, 4), torch.arange(2), torch.tensor([0.9, 0.99]), [(0, 0.5)])
        >>> f"{found.median_confidence:.3f}"
        '0.945'
    """

    images: Tensor
    classes: Tensor
    confidences: Tensor
    medians: list[tuple[int, float]] = field(default_factory=list)

    @property
    def median_confidence(self) -> float:
        """Median over the classes."""
        return float(self.confidences.quantile(0.5))


class Task:
    """One call: the model, the classes wanted, random numbers on its device, and the medians on the way.

    Args:
        model: images to logits, already safe to run.
        shape: (C, H, W) of the images.
        classes: [K] wanted.
        seed: of the generator.

    Example:
        >>> task = Task(lambda x: x.flatten(1), (1, 1, 3), torch.tensor([0, 2]), seed=0)
        >>> task.confidences(torch.zeros(5, 1, 1, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, model: Classifier, shape: tuple[int, int, int], classes: Tensor, seed: int) -> None:
        self.model, self.shape, self.classes = model, shape, classes
        self.device = classes.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.medians: list[tuple[int, float]] = []

    def confidences(self, images: Tensor) -> Tensor:
        """[N, K] probabilities of the wanted classes for images [N, C, H, W]; no gradient."""
        with torch.no_grad():
            logits = torch.cat([logits_of(self.model, part) for part in images.split(IMAGES_AT_ONCE)])
        return logits.softmax(dim=1).nan_to_num(nan=0.0)[:, self.classes]

    def uniform(self, *size: int) -> Tensor:
        """U[0, 1) of this size."""
        return torch.rand(size, generator=self.generator, device=self.device)

    def normal(self, *size: int) -> Tensor:
        """N(0, 1) of this size."""
        return torch.randn(size, generator=self.generator, device=self.device)

    def note(self, number: int, confidences: Tensor) -> None:
        """Remember the median of the confidences [K] after a generation or step."""
        self.medians.append((number, float(confidences.quantile(0.5))))


class Fooling(ABC):
    """Looks for images that a model is sure of.

    A subclass is its hyperparameters and :meth:`search`. The model is as before afterwards, also after an exception.

    Args:
        seed: of everything random; the same seed gives the same images on one kind of device.

    Example:
        >>> from lightning_adv.fooling import FoolingGradient
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> FoolingGradient(steps=5)(model, (1, 4, 4)).images.shape
        torch.Size([3, 1, 4, 4])
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def search(self, task: Task) -> tuple[Tensor, Tensor]:
        """Images [K, C, H, W] in [0, 1] and their confidences [K], in the order of ``task.classes``."""

    def __call__(
        self, model: Classifier, image_shape: tuple[int, int, int], classes: Sequence[int] | None = None
    ) -> FoolingSet:
        """One image for each class.

        Args:
            model: images [N, C, H, W] in [0, 1] to logits [N, K].
            image_shape: (C, H, W).
            classes: wanted; default all.

        Raises:
            InputError: a class that the model does not have, or a model that does not give logits [N, K].
        """
        weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        device = torch.device("cpu") if weight is None else weight.device
        with leaves_no_trace(model):
            with torch.no_grad():
                logits = logits_of(model, torch.zeros(1, *image_shape, device=device))
            count = logits.shape[1]
            wanted = list(range(count)) if classes is None else list(classes)
            if not wanted or min(wanted) < 0 or max(wanted) >= count:
                raise InputError(f"classes must be some of 0 .. {count - 1}, which the model has, got {wanted}")
            task = Task(model, tuple(image_shape), torch.tensor(wanted, device=device), self.seed)
            images, confidences = self.search(task)
        return FoolingSet(images.detach(), task.classes, confidences.detach(), task.medians)
