"""Augmentation of whole batches on the device, with randomness that comes from an explicit generator."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.errors import InputError

__all__ = ["Augmentation", "CropFlip", "CropShift", "Cutout", "Kornia", "boxes"]


class Augmentation(ABC):
    """Changes a batch of training images at random."""

    @abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented copies of ``images`` (float [N, C, H, W] in [0, 1], also on the way out).

        All randomness comes from ``generator``, which lives on the CPU: a batch is augmented in the same way on every
        kind of device, and the global generators stay as they are.
        """


class CropFlip(Augmentation):
    """A random crop of the padded image and a horizontal flip with probability 1/2, both drawn for every image.

    The augmentation of the CIFAR papers (He et al., 2016). Pixels are copied, never interpolated: one gather for the
    batch, where kornia's ``RandomCrop`` loops over the images or resamples them with errors of 1e-5.

    Args:
        padding: pixels added on every side before the crop.
        flip: whether images are flipped; leave it off for digits, letters and signs.
        padding_mode: "constant" pads with black, "reflect" mirrors the image at its border.
    """

    def __init__(
        self, padding: int = 4, flip: bool = True, padding_mode: Literal["constant", "reflect"] = "constant"
    ) -> None:
        if padding < 0:
            raise InputError(f"CropFlip: padding must be at least 0 pixels, got {padding}")
        self.padding = padding
        self.flip = flip
        self.padding_mode = padding_mode

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Cropped and flipped images, of the same size."""
        count, _, height, width = images.shape
        if self.padding_mode == "reflect" and self.padding >= min(height, width):
            raise InputError(f"CropFlip: padding {self.padding} by reflection needs images larger than that")
        places = torch.randint(0, 2 * self.padding + 1, (2, count), generator=generator).to(images.device)
        mirrored = torch.rand(count, generator=generator).to(images.device) < 0.5
        padded = F.pad(images, (self.padding,) * 4, mode=self.padding_mode)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [N, C, 2p + 1, 2p + 1, H, W], a view
        crops = windows[torch.arange(count, device=images.device), :, places[0], places[1]]
        return torch.where(mirrored.view(-1, 1, 1, 1), crops.flip(-1), crops) if self.flip else crops


class CropShift(Augmentation):
    """A part of each image at another place, on black; what robust training takes from harder crops (IDBH).

    Li and Spratling, Data Augmentation Alone Can Improve Adversarial Training, 2023. Rows and columns that are left out
    add up to a number drawn for every image. Their whole recipe is this, a flip, a change of colour and random erasing:
    ``augment: [CropShift, Kornia, ...]``.

    Args:
        least: pixels left out at the least.
        most: pixels left out at the most; 11 in the paper, for images of 32 x 32.

    Raises:
        InputError: a negative number of pixels, or ``least`` above ``most``.
    """

    def __init__(self, least: int = 0, most: int = 11) -> None:
        if not 0 <= least <= most:
            raise InputError(f"CropShift needs 0 <= least <= most pixels, got {least} and {most}")
        self.least, self.most = least, most

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images of the same size."""
        count, _, height, width = images.shape
        if self.most >= min(height, width):
            raise InputError(f"CropShift: leaving out {self.most} pixels needs images larger than that")
        whole = torch.randint(self.least, self.most + 1, (count,), generator=generator)
        columns = _below(whole + 1, generator)
        image = images
        for axis, (side, out) in enumerate(((height, whole - columns), (width, columns)), start=2):
            source, place = (_below(out + 1, generator)[:, None] for _ in range(2))
            position = torch.arange(side)
            there = (position >= place) & (position < place + side - out[:, None])
            taken = (position - place + source).clamp(0, side - 1)
            shape = (count, 1, side, 1) if axis == 2 else (count, 1, 1, side)
            taken, there = (each.view(shape).to(images.device) for each in (taken, there))
            image = torch.where(there, image.gather(axis, taken.expand_as(image)), 0.0)
        return image


class Cutout(Augmentation):
    """A black square somewhere in each image (DeVries and Taylor, Improved Regularization with Cutout, 2017).

    Its centre is any pixel, so that a part of the square may lie outside.

    Args:
        size: of its side, in pixels: 16 for CIFAR-10, 8 for CIFAR-100.

    Raises:
        InputError: a size below 1.
    """

    def __init__(self, size: int = 16) -> None:
        if size < 1:
            raise InputError(f"Cutout: size must be at least 1 pixel, got {size}")
        self.size = size

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images of the same size."""
        sides = torch.full((2, len(images)), self.size)
        centres = torch.stack(
            [torch.randint(0, side, (len(images),), generator=generator) for side in images.shape[2:]]
        )
        return images.masked_fill(boxes(images.shape, sides, centres).to(images.device), 0.0)


class Kornia(Augmentation):
    """Any augmentations of ``kornia.augmentation``, one after the other; the result is clamped to [0, 1].

    Args:
        transforms: such as ``[kornia.augmentation.RandomAffine(10.0), ...]``; policies such as
            ``kornia.augmentation.auto.RandAugment(n=2, m=10)`` are some, too.

    Raises:
        InputError: one that joins images, whose labels would stay as they are.
    """

    def __init__(self, transforms: list[nn.Module]) -> None:
        from kornia.augmentation import MixAugmentationBaseV2  # not everybody who loads images needs it

        mixing = [type(each).__name__ for each in transforms if isinstance(each, MixAugmentationBaseV2)]
        if mixing:
            raise InputError(f"{mixing[0]} joins images, and their labels must follow: give mix, as MixUp or CutMix")
        self.transforms = nn.Sequential(*transforms)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Transformed images."""
        seed = int(torch.randint(2**63 - 1, (1,), generator=generator))
        device = images.device
        # Kornia draws from the global generators.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.default_generators[device.index].manual_seed(seed)
            return self.transforms(images).clamp(0, 1)


def boxes(shape: torch.Size, sides: Tensor, centres: Tensor) -> Tensor:
    """[N, 1, H, W] where each image's box lies; it is cut off at the image's border.

    Args:
        shape: of the images [N, C, H, W].
        sides: [2, N] height and width of each box, in pixels; nothing is covered where one is 0.
        centres: [2, N] row and column of each box's centre.

    Example:
        >>> boxes(torch.Size([1, 3, 2, 2]), torch.tensor([[2], [4]]), torch.tensor([[0], [1]])).int().flatten().tolist()
        [1, 1, 0, 0]
    """
    inside = []
    for side, length, centre in zip(shape[2:], sides, centres, strict=True):
        start = (centre - length // 2)[:, None]
        position = torch.arange(side)
        inside.append((position >= start) & (position < start + length[:, None]))
    rows, columns = inside
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """[N] a whole number from 0 on below each limit."""
    return (torch.rand(len(limits), generator=generator, dtype=torch.float64) * limits).long()
