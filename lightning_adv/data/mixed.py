"""Any image data with generated or pseudo-labelled images in every batch (Carmon et al., 2019; Gowal et al., 2021)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.extra import ExtraImages, Shape, open_extra
from lightning_adv.data.facts import DataFacts
from lightning_adv.data.images import IndexedImages, Positions
from lightning_adv.data.loader import ImageLoader
from lightning_adv.data.poisoned_sets import labels_of
from lightning_adv.data.samplers import MixedBatches
from lightning_adv.data.wrapped import WrapsDataModule, loader_like
from lightning_adv.errors import InputError
from lightning_adv.pixels import float_images

__all__ = ["MixedDataModule"]


class MixedDataModule(WrapsDataModule, LightningDataModule):
    """Another datamodule with generated images in every training batch; validation and test stay as they are.

    Of a batch of B images over all processes, ``int(fraction * B)`` are drawn with replacement from ``extra``; the rest
    are the data's, in an order of which an epoch shows none twice. By default an epoch has ``ceil(N / B)`` batches, as
    it has without extra images, so that it shows ``1 - fraction`` of the N training images: a run of equally many
    epochs takes equally many steps. The order is a function of seed and epoch: the same for any number of processes
    with equally many images in their batches, and after a resume.

    Images of a file are read when a batch needs them, however many there are. They are augmented as the data's are.
    In a batch their numbers (``index``) are negative. Those of poisoned data are not poisoned.

    Args:
        data: the datamodule that is mixed with; of another project, one with a training loader in order or shuffled
            over ``(image, label)``, which resumes at the end of an epoch.
        extra: an npz file with images and labels, stored as ``numpy.savez`` does, without compression; or an npy file
            of images; or a folder of class folders, named as the classes or by their numbers. Images are uint8, or
            floats in [0, 1], of the shape of the data's, channels first or last.
        fraction: share of a batch that comes from ``extra``, in [0, 1).
        labels: npy file of the labels of an npy file, integers; default the file ``<labels_key>.npy`` beside it.
        images_key: name of the images in an npz file.
        labels_key: name of the labels.
        whole_passes: an epoch shows all of the data's images, and is ``1 / (1 - fraction)`` times as long.
        seed: of the order around another project's datamodule; this project's have their own.

    Raises:
        InputError: a fraction out of range; before training starts, files that are missing, compressed or of another
            shape, a label that is no class, batches too small for the fraction, a checkpoint of other extra images.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from lightning_adv.data import MNISTSubset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/made.npz", image=np.zeros((5, 28, 28), np.uint8), label=np.arange(5))
        ...     data = MixedDataModule(MNISTSubset(batch_size=10), f"{folder}/made.npz", fraction=0.7)
        ...     batch = next(iter(data.train_dataloader()))
        >>> len(batch.label), int((batch.index < 0).sum())
        (10, 7)
    """

    is_outermost: ClassVar[bool] = True

    def __init__(
        self,
        data: LightningDataModule,
        extra: str,
        fraction: float = 0.7,
        labels: str | None = None,
        images_key: str = "image",
        labels_key: str = "label",
        whole_passes: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(data)
        if not 0 <= fraction < 1:
            raise InputError(f"fraction must lie in [0, 1), got {fraction}: the share of a batch that is from extra")
        self.extra, self.fraction, self.labels, self.seed = extra, fraction, labels, seed
        self.images_key, self.labels_key, self.whole_passes = images_key, labels_key, whole_passes
        self._images: ExtraImages | None = None
        self._resumed: str | None = None

    def setup(self, stage: str | None = None) -> None:
        """Set the data up; for training, look at the extra images, too."""
        super().setup(stage)
        shape = DataFacts(self.data).shape
        if stage == "fit" and shape is not None and DataFacts(self.data).num_classes:
            self._opened(shape, None)

    def train_dataloader(self) -> DataLoader:
        """The data's loader, with its augmentation and poison, over mixed batches."""
        loader = self.data.train_dataloader()
        if isinstance(loader, ImageLoader):
            shape = DataFacts(self.data).shape or tuple(loader.dataset[[0]].image.shape[1:])
            extra = self._opened(shape, loader.dataset)
            return self.data.training_loader(MixedImages(loader.dataset, extra), self._batches(extra))
        pairs = _pairs(loader)
        extra = self._opened(tuple(pairs[0][0].shape), pairs)
        workers = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        shuffle = isinstance(loader.sampler, RandomSampler)
        batches = self._batches(extra)(len(pairs), loader.batch_size, self.seed, *workers, shuffle=shuffle)
        return loader_like(loader, MixedPairs(pairs, extra), sampler=batches, batch_size=None)

    def state_dict(self) -> dict[str, object]:
        """Which images are mixed in, and the data's state."""
        return {"extra": self._key(), "data": self.data.state_dict()}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Remember what a resumed run must have in common with the checkpoint's."""
        self._resumed = state_dict["extra"]
        self.data.load_state_dict(state_dict["data"])

    def _batches(self, extra: ExtraImages) -> Callable[..., MixedBatches]:
        if self._resumed not in (None, self._key()):
            raise InputError(
                f"the checkpoint was trained with other extra images or another fraction ({self._resumed}, now "
                f"{self._key()}): keep those of the run, or start a new one"
            )
        return partial(MixedBatches, extra=len(extra), fraction=self.fraction, whole_passes=self.whole_passes)

    def _key(self) -> str | None:
        return self._images and f"{self.fraction:g} of {self._images.key}{', whole passes' * self.whole_passes}"

    def _opened(self, shape: Shape, images: Dataset | None) -> ExtraImages:
        if self._images is None:
            told = DataFacts(self.data)
            classes = told.num_classes or int(labels_of(images)[0].max()) + 1
            names = told.class_names or [str(number) for number in range(classes)]
            self._images = open_extra(self.extra, self.labels, (self.images_key, self.labels_key), shape, names)
        return self._images


class MixedImages(IndexedImages):
    """The images of a data set, and behind their positions those of another.

    Length, labels and numbers are those of the first; an extra image has a number below 0.

    Args:
        images: of the data.
        extra: the others.
    """

    def __init__(self, images: IndexedImages, extra: ExtraImages) -> None:
        super().__init__(images.labels)
        self.images, self.extra, self.index = images, extra, images.index
        self.loads_files = images.loads_files or extra.loads_files

    @property
    def labels(self) -> Tensor:
        """Labels of the data's images, int64 [N]."""
        return self.images.labels

    def __getitem__(self, positions: Positions) -> ImageBatch:
        """The images at these positions as one batch, of the kind that the data's are."""
        chosen = torch.as_tensor([positions] if isinstance(positions, int) else positions)
        is_own = chosen < len(self)
        batch = self.images[chosen[is_own]]
        if is_own.all():
            return batch
        image, label = self.extra.batch((chosen[~is_own] - len(self)).numpy())
        parts = [batch.image, image.to(batch.image.device)]
        if parts[0].dtype != parts[1].dtype:
            parts = [float_images(part) for part in parts]
        index = len(self) - 1 - chosen[~is_own]
        place = torch.cat([is_own.nonzero()[:, 0], (~is_own).nonzero()[:, 0]]).argsort().to(batch.image.device)
        joined = (parts, (batch.label, label), (batch.index, index))
        return type(batch)(*(torch.cat([first, second.to(first.device)])[place] for first, second in joined))

    def on(self, device: torch.device) -> "MixedImages":
        """The same, the data's images on a device."""
        return MixedImages(self.images.on(device), self.extra)

    def set_epoch(self, epoch: int) -> None:
        """Tell the data's images the epoch."""
        self.images.set_epoch(epoch)

    def for_evaluation(self) -> IndexedImages:
        """The data's images, as an evaluation sees them."""
        return self.images.for_evaluation()

    def as_trained(self) -> IndexedImages:
        """The data's images, as they are trained on."""
        return self.images.as_trained()

    def select(self, positions: Positions) -> "MixedImages":
        """Those of the data's images at these positions, with all others."""
        return MixedImages(self.images.select(positions), self.extra)

    def _load(self, index: Tensor) -> Tensor:
        return self.images._load(index)


class MixedPairs(Dataset):
    """Lists of items ``(image, label)`` of any data set, and behind their positions extra images.

    Args:
        dataset: gives float images [C, H, W] in [0, 1] and labels.
        extra: the others.
    """

    def __init__(self, dataset: Dataset, extra: ExtraImages) -> None:
        self.dataset, self.extra = dataset, extra
        self._takes_tensors = isinstance(dataset[0][1], Tensor)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, positions: list[int]) -> list:
        """The items at these positions, for the loader's collation."""
        others = [position - len(self) for position in positions if position >= len(self)]
        made = iter(())
        if others:
            image, label = self.extra.batch(others)
            made = zip(float_images(image), label if self._takes_tensors else label.tolist(), strict=True)
        return [self.dataset[position] if position < len(self) else next(made) for position in positions]


def _pairs(loader: object) -> Dataset:
    """The data set of another project's training loader."""
    dataset = loader.dataset if isinstance(loader, DataLoader) else None
    if dataset is None or isinstance(dataset, IterableDataset) or loader.batch_size is None:
        raise InputError(
            f"MixedDataModule needs one training loader over a map-style data set, got {type(loader).__name__} over "
            f"{type(dataset).__name__}"
        )
    item = dataset[0]
    image = item[0] if isinstance(item, (tuple, list)) and len(item) == 2 else None
    if not isinstance(image, Tensor) or image.dim() != 3 or not image.is_floating_point():
        raise InputError(
            "MixedDataModule mixes items (image, label) with float images [C, H, W] in [0, 1], and the training data "
            f"gives {type(item).__name__}; end its transform with ToTensor"
        )
    return dataset
