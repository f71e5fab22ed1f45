"""Augmentation of whole batches on the device, with randomness that comes from an explicit generator."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.errors import InputError

__all__ = ["Augmentation", "CropFlip", "Kornia"]


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


class Kornia(Augmentation):
    """Any augmentations of ``kornia.augmentation``, one after the other; the result is clamped to [0, 1].

    Args:
        transforms: such as ``[kornia.augmentation.RandomAffine(10.0), ...]``.
    """

    def __init__(self, transforms: list[nn.Module]) -> None:
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
