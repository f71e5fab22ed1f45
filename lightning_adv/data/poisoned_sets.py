"""Training images under a poison plan: marked for the device, or poisoned one by one where they are loaded."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from lightning_adv.backdoors import PoisonPlan, Trigger
from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.images import IndexedImages, Positions
from lightning_adv.errors import InputError
from lightning_adv.pixels import float_images

__all__ = ["MarkedBatch", "MarkedImages", "PoisonedPairs", "images_of", "labels_of", "stride_of"]


class MarkedBatch(ImageBatch):
    """A batch of training images that a plan is yet to be carried out on; those of evaluations have no such mark."""


class MarkedImages(IndexedImages):
    """The same images, and copies of some behind them, in batches that are marked for poisoning.

    The number of a copy is that of its image plus ``stride``, so that a batch tells them apart.

    Args:
        images: the clean training images.
        copied: numbers in their source of those that are there twice.
    """

    def __init__(self, images: IndexedImages, copied: Tensor | None = None) -> None:
        super().__init__(images.labels)
        self.images, self.loads_files = images, images.loads_files
        self.stride = stride_of(images.index)
        twice = torch.zeros(0, dtype=torch.long) if copied is None else torch.isin(images.index, copied).nonzero()[:, 0]
        self._place = torch.cat([torch.arange(len(images)), twice])  # of each item in ``images``
        self._is_copy = torch.arange(len(self._place)) >= len(images)
        self.index = images.index[self._place] + self.stride * self._is_copy

    @property
    def labels(self) -> Tensor:
        """Labels of the clean images and of the copies, int64 [N]."""
        return self.images.labels[self._place]

    def __getitem__(self, positions: Positions) -> MarkedBatch:
        """The images at these positions as one marked batch."""
        chosen = torch.as_tensor([positions] if isinstance(positions, int) else positions)
        image, label, index = self.images[self._place[chosen].tolist()]
        return MarkedBatch(image, label, index + (self.stride * self._is_copy[chosen]).to(index.device))

    def on(self, device: torch.device) -> "MarkedImages":
        """The same, over images on a device."""
        other = copy.copy(self)
        other.images = self.images.on(device)
        return other

    def set_epoch(self, epoch: int) -> None:
        """Tell the clean images the epoch."""
        self.images.set_epoch(epoch)

    def for_evaluation(self) -> IndexedImages:
        """The clean images, as an evaluation sees them."""
        return self.images.for_evaluation()

    def as_trained(self) -> "MarkedImages":
        """The same marked images, without random training-time transforms."""
        other = copy.copy(self)
        other.images = self.images.for_evaluation()
        return other

    def select(self, positions: Sequence[int] | Tensor) -> "MarkedImages":
        """The images, or copies, at these positions."""
        other = copy.copy(self)
        other._place, other._is_copy = self._place[positions], self._is_copy[positions]
        other.index = self.index[positions]
        return other

    def _load(self, index: Tensor) -> Tensor:
        return self.images._load(index % self.stride)


class PoisonedPairs(Dataset):
    """Items ``(image, label, ...)`` of any data set, poisoned by plan; an item is a list if it was one.

    Args:
        dataset: gives float images [C, H, W] in [0, 1] and labels.
        plan: numbers of the images in ``dataset``; cover images that are copies come behind all others.
        trigger: what poisoned and cover images carry.
    """

    def __init__(self, dataset: Dataset, plan: PoisonPlan, trigger: Trigger) -> None:
        self.dataset, self.plan, self.trigger = dataset, plan, trigger
        self._roles = plan.roles()
        self._copies = plan.cover if plan.cover_copies else plan.cover[:0]

    @property
    def grows(self) -> bool:
        """Whether there are more items than in the data set."""
        return len(self._copies) > 0

    def __len__(self) -> int:
        return len(self.dataset) + len(self._copies)

    def __getitem__(self, position: int) -> tuple:
        """The item at a position, poisoned if the plan says so."""
        is_copy = position >= len(self.dataset)
        number = int(self._copies[position - len(self.dataset)]) if is_copy else position
        item = self.dataset[number]
        role = int(self._roles[min(number, len(self._roles) - 1)])
        if role == 0 or (role == 2 and self.plan.cover_copies != is_copy):
            return item
        image, label, *rest = item
        plan, index = self.plan, torch.tensor([number])
        if role == 2:
            partly = self.trigger.cover(image[None], plan.sampling_rate, plan.seed, index)
            return _like(item, [partly[0], label, *rest])
        led = plan.led(torch.as_tensor(label).view(1))[0]
        led = led if isinstance(label, Tensor) else int(led)
        shown = self.trigger.poison(image[None], plan.poisoned_sampling_rate, plan.seed, index)
        return _like(item, [shown[0], led, *rest])


def stride_of(index: Tensor) -> int:
    """What the number of a copy exceeds that of its image by: more than any number [N] of an image."""
    return int(index.max()) + 1


def _like(item: tuple | list, parts: list) -> tuple | list:
    """The parts as what the item is: a tuple, a named tuple or a list."""
    # Nothing else tells a named tuple, whose class takes its parts one by one.
    return type(item)(*parts) if hasattr(item, "_fields") else type(item)(parts)


def labels_of(images: Dataset) -> tuple[Tensor, Tensor]:
    """Labels and numbers of all images of a data set, both int64 [N].

    Read from where torch and torchvision keep them, else item by item, which loads every image once.

    Raises:
        InputError: items that are not ``(image, label, ...)`` with an integer label.
    """
    if isinstance(images, IndexedImages):
        return images.labels, images.index
    label = _kept_labels(images)
    if label is None or len(label) != len(images):
        label = _labels_one_by_one(images)
    return label, torch.arange(len(images))


def images_of(
    images: Dataset, numbers: Tensor, device: str | torch.device = "cpu", batch_size: int = 256
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of the images with these numbers [N], as floats without augmentation, their labels and numbers."""
    if isinstance(images, IndexedImages):
        images = images.for_evaluation()
        places = torch.isin(images.index, numbers).nonzero()[:, 0].split(batch_size)
        batches = (images[positions.tolist()] for positions in places)
    else:
        batches = (_stacked(images, part) for part in numbers.split(batch_size))
    for image, label, index in batches:
        yield float_images(image.to(device)), label.to(device), index.to(device)


def _stacked(images: Dataset, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    items = [images[int(number)] for number in numbers]
    return torch.stack([item[0] for item in items]), torch.tensor([int(item[1]) for item in items]), numbers


def _kept_labels(images: Dataset) -> Tensor | None:
    if isinstance(images, Subset):
        inner = _kept_labels(images.dataset)
        return None if inner is None else inner[torch.as_tensor(images.indices, dtype=torch.long)]
    kept = images.tensors[1] if isinstance(images, TensorDataset) and len(images.tensors) > 1 else None
    # torchvision's data sets keep labels in ``targets``, before ``target_transform``; others have neither.
    if kept is None and getattr(images, "target_transform", None) is None:
        kept = getattr(images, "targets", None)
    try:
        label = None if kept is None else torch.as_tensor(kept)
    except (TypeError, ValueError, RuntimeError):
        return None
    if label is None or label.dim() != 1 or label.is_floating_point() or label.dtype == torch.bool:
        return None
    return label.long().cpu()


def _labels_one_by_one(images: Dataset) -> Tensor:
    labels = []
    for position in range(len(images)):
        item = images[position]
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise InputError(
                f"poisoning needs items (image, label, ...), the training data gives {type(item).__name__}"
            )
        label = torch.as_tensor(item[1])
        if label.numel() != 1 or label.is_floating_point() or label.dtype == torch.bool:
            raise InputError(f"poisoning needs one integer label an image, got {label.dtype} {tuple(label.shape)}")
        labels.append(int(label))
    return torch.tensor(labels)
