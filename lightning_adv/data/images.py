"""Datasets that are indexed by a list of positions and answer with a whole batch."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from lightning_adv.attacks.labels import as_labels
from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.seeds import derive_seed
from lightning_adv.errors import InputError
from lightning_adv.pictures import as_8_bit

__all__ = ["InMemoryImages", "IndexedImages", "LazyImages", "ResidentImages"]

Positions = int | Sequence[int] | Tensor


class IndexedImages(Dataset[ImageBatch], ABC):
    """Some images of a source, chosen by ``index``; ``data[[3, 5]]`` is one ``ImageBatch``, without a collate function.

    ``data[3]`` is a batch of one image (the batch dimension stays). Load it with a sampler that yields lists of
    positions and ``DataLoader(..., batch_size=None)``: a batch is then one fetch.

    Args:
        labels: int64 [M], the labels of the whole source.
        index: int64 [N], positions in the source of the images that belong to this dataset; default all.
    """

    loads_files: ClassVar[bool] = False  # whether an item costs enough that worker processes pay

    def __init__(self, labels: Tensor, index: Tensor | None = None) -> None:
        self._labels = as_labels(labels, len(labels) if labels.ndim else 1)
        self.index = torch.arange(len(labels)) if index is None else index.long()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> Tensor:
        """Labels of this dataset's images, int64 [N]."""
        return self._labels[self.index]

    def __getitem__(self, positions: Positions) -> ImageBatch:
        """The images at ``positions`` of this dataset (0 to ``len(self) - 1``) as one batch."""
        chosen = self.index[[positions] if isinstance(positions, int) else positions]
        return ImageBatch(self._load(chosen), self._labels[chosen], chosen)

    def set_epoch(self, epoch: int) -> None:
        """Tell the dataset the epoch; one that draws random numbers while loading derives its seeds from it."""

    def for_evaluation(self) -> Self:
        """The same images without random training-time transforms."""
        return self

    def as_trained(self) -> "IndexedImages":
        """The images as they are trained on, poisoned where they are, without random training-time transforms."""
        return self.for_evaluation()

    def file_of(self, position: int) -> Path | None:
        """File of the image at this position of the source; None where that is not known."""
        return None

    def on(self, device: torch.device) -> "IndexedImages":
        """The same images, copied once to a device, where each batch is then one index.

        Raises:
            InputError: images that are loaded from files one by one.
        """
        if self.loads_files:
            raise InputError(
                "resident=true keeps all images on the device, and these are loaded from files, batch by batch; leave "
                "it out, and give num_workers"
            )
        return ResidentImages(self[torch.arange(len(self))].image.to(device), self.labels, self.index)

    @abstractmethod
    def select(self, positions: Sequence[int] | Tensor) -> Self:
        """The images at ``positions`` of this dataset as a dataset; pixels are shared, not copied."""

    @abstractmethod
    def _load(self, index: Tensor) -> Tensor:
        """Images [N, C, H, W] at these positions of the source."""


class InMemoryImages(IndexedImages):
    """Images held as one tensor.

    Args:
        images: uint8, or floats in [0, 1], of shape [M, C, H, W].
        labels: integers [M].
        index: positions of the images that belong to this dataset; default all.

    Example:
        >>> data = InMemoryImages(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.arange(6))
        >>> data.select([4, 2])[[1]].index
        tensor([2])
    """

    def __init__(self, images: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        if images.ndim != 4:
            raise InputError(f"images must have the shape [N, C, H, W], got {list(images.shape)}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise InputError(
                f"images must be uint8, or floats in [0, 1], got {images.dtype}; divide them by the value of white "
                "(65535 for 16 bits)"
            )
        if len(images) != len(labels):
            raise InputError(f"there must be one label for every image, got {len(images)} images, {len(labels)} labels")
        super().__init__(labels, index)
        self._images = images

    @property
    def images(self) -> Tensor:
        """This dataset's images [N, C, H, W] (a copy)."""
        return self._images[self.index]

    @property
    def source_images(self) -> Tensor:
        """The images of the whole source [M, C, H, W], not copied."""
        return self._images

    def select(self, positions: Sequence[int] | Tensor) -> Self:
        """The images at ``positions`` of this dataset as a dataset; pixels are shared, not copied."""
        return type(self)(self._images, self._labels, self.index[positions])

    def _load(self, index: Tensor) -> Tensor:
        return self._images[index]


class ResidentImages(IndexedImages):
    """Images held as one tensor, in the order of the data set, on any device, on which its batches then lie.

    They keep the numbers of those they were made from, so that nothing that depends on an image's number changes.

    Args:
        images: uint8, or floats in [0, 1], of shape [N, C, H, W].
        labels: integers [N].
        index: int64 [N], numbers in their source.

    Example:
        >>> data = ResidentImages(
        ...     torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), torch.tensor([7, 9])
        ... )
        >>> data[[1]].index
        tensor([9])
    """

    def __init__(self, images: Tensor, labels: Tensor, index: Tensor) -> None:
        super().__init__(labels, index)
        self.images = images
        self._numbers = torch.stack([self._labels, self.index]).to(images.device)

    @property
    def labels(self) -> Tensor:
        """Labels of the images, int64 [N], in the machine's memory."""
        return self._labels

    def __getitem__(self, positions: Positions) -> ImageBatch:
        """The images at these positions as one batch on the device, without waiting for it."""
        chosen = torch.as_tensor([positions] if isinstance(positions, int) else positions)
        if self.images.is_cuda:
            chosen = chosen.pin_memory().to(self.images.device, non_blocking=True)
        return ImageBatch(self.images[chosen], *self._numbers[:, chosen])

    def on(self, device: torch.device) -> "ResidentImages":
        """These images where they lie already, else a copy."""
        return self if self.images.device == device else super().on(device)

    def select(self, positions: Sequence[int] | Tensor) -> Self:
        """The images at ``positions`` of this dataset as a dataset; a copy."""
        return type(self)(self.images[positions], self._labels[positions], self.index[positions])

    def _load(self, index: Tensor) -> Tensor:
        raise InputError("these images have no source to load from; ask for them by position")


class LazyImages(IndexedImages):
    """Images that are loaded one by one when asked for and stacked, for sets that do not fit into memory.

    Random transforms draw from generators seeded with (seed, epoch, image), so an image is augmented in the same way
    whatever the number of workers or processes and after a resume, and the global generators stay as they are.

    Args:
        dataset: ``dataset[i]`` is ``(PIL image or tensor [C, H, W], label)``.
        labels: integers [M], the labels of ``dataset`` (so that nothing has to be loaded to know them).
        transform: from an item of ``dataset`` to a PIL image or a tensor, all of one size.
        evaluation_transform: the same without randomness, used by ``for_evaluation``; default ``transform``.
        seed: of the random transforms.
        index: positions of the images that belong to this dataset; default all.
    """

    loads_files = True

    def __init__(
        self,
        dataset: Dataset,
        labels: Tensor,
        transform: Callable | None = None,
        evaluation_transform: Callable | None = None,
        seed: int = 0,
        index: Tensor | None = None,
    ) -> None:
        super().__init__(labels, index)
        self.dataset = dataset
        self.transform = transform
        self.evaluation_transform = evaluation_transform or transform
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the dataset the epoch, from which the seeds of the random transforms derive."""
        self.epoch = epoch

    def for_evaluation(self) -> Self:
        """The same images under ``evaluation_transform``."""
        return self._copy(self.evaluation_transform, self.index)

    def select(self, positions: Sequence[int] | Tensor) -> Self:
        """The images at ``positions`` of this dataset as a dataset."""
        return self._copy(self.transform, self.index[positions])

    def file_of(self, position: int) -> Path | None:
        """File of the image at this position of the source; None where that is not known."""
        samples = getattr(self.dataset, "samples", None)  # torchvision's folders have it, other data sets need not
        return None if samples is None else Path(samples[position][0])

    def _copy(self, transform: Callable | None, index: Tensor) -> Self:
        return type(self)(self.dataset, self._labels, transform, self.evaluation_transform, self.seed, index)

    def _load(self, index: Tensor) -> Tensor:
        images = [self._load_one(i) for i in index.tolist()]
        sizes = {tuple(image.shape) for image in images}
        if len(sizes) > 1:
            raise InputError(f"images of one batch differ in size: {sorted(sizes)}; add a transform that resizes them")
        return torch.stack(images)

    def _load_one(self, position: int) -> Tensor:
        with _seeded_globally(derive_seed(self.seed, self.epoch, position)):
            try:
                image = self.dataset[position][0]
            except (OSError, SyntaxError) as error:  # what PIL raises for a broken file
                raise InputError(
                    f"cannot read {self.file_of(position) or f'image {position}'}: {error}; replace or remove the file"
                ) from error
            if self.transform is not None:
                image = self.transform(image)
        return pil_to_tensor(_bytes_for_channels(image)) if isinstance(image, Image.Image) else image


def _bytes_for_channels(image: Image.Image) -> Image.Image:
    """An image whose bytes are what its channels show: no palette, no 16 bits, no ink."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    return as_8_bit(image, "L" if image.mode == "1" or image.mode.startswith("I") else "RGB")


@contextmanager
def _seeded_globally(seed: int) -> Iterator[None]:
    # The transforms of torchvision and timm draw from the global generators of Python, NumPy and torch.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
