"""What a loader yields: images, labels and where the images come from."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ImageBatch", "float_images"]


class ImageBatch(NamedTuple):
    """A batch of images.

    ``image`` is [N, C, H, W], float32 in [0, 1] when it reaches the model (loaders of small sets yield uint8, which
    ``ImageDataModule.on_after_batch_transfer`` converts on the device); ``label`` is int64 [N]; ``index`` is int64 [N],
    the positions of the images in their source: the whole training or test set, before any split, subset or sharding.
    """

    image: Tensor
    label: Tensor
    index: Tensor


def float_images(image: Tensor) -> Tensor:
    """Images as float32 in [0, 1]: uint8 is divided by 255, exactly as torchvision's ``ToTensor`` does it."""
    if image.dtype == torch.uint8:
        return image.float().div_(255)
    return image.float()
