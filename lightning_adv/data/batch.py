"""What a loader yields: images, labels and where the images come from."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["ImageBatch"]


class ImageBatch(NamedTuple):
    """A batch of images.

    ``image`` is [N, C, H, W], float32 in [0, 1] when it reaches the model (loaders of small sets yield uint8, which
    ``ImageDataModule.on_after_batch_transfer`` converts on the device); ``label`` is int64 [N], or float32 [N, K] where
    training images were joined (``Mixing``); ``index`` is int64 [N], the positions of the images in their source: the
    whole training or test set, before any split, subset or sharding.
    """

    image: Tensor
    label: Tensor
    index: Tensor
