"""Pixels lie in [0, 1], checked with one tolerance; equal images have one key, made in one way."""

import hashlib

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["canonical", "check_images", "check_pixels", "digests", "float_images", "visible"]

ROUNDING = 1e-6
"""Resizing, colour transforms and float16 leave pixels such as 1 + 1.2e-7."""


def check_images(images: Tensor, what: str = "images") -> None:
    """Refuse what is no batch of float images, by its shape and type alone, which costs nothing.

    Args:
        images: N x C x H x W, N >= 0.
        what: the message begins with.

    Raises:
        InputError: another number of dimensions, or another type of numbers.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise InputError(
            f"{what} must be a float tensor N x C x H x W, got {images.dtype} of shape {tuple(images.shape)}; uint8 is "
            "divided by 255 first"
        )


def check_pixels(images: Tensor, remedy: str, what: str = "images") -> None:
    """Refuse pixels outside [0, 1] by more than rounding; who computes with the range clamps. One host sync.

    Args:
        images: of any shape, not empty.
        remedy: what to do about it, the end of the message.
        what: the message begins with.

    Raises:
        InputError: a pixel outside [0, 1], or NaN.

    Example:
        >>> check_pixels(torch.tensor([0.0, 1 + 1.2e-7]), "divide by 255")
    """
    low, high = torch.stack(torch.aminmax(images)).tolist()
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    if low != low or high != high:
        remedy = "they contain NaN"
    raise InputError(f"{what} must lie in [0, 1], got [{_shown(low)}, {_shown(high)}]: {remedy}")


def visible(images: Tensor) -> Tensor:
    """Images [..., C, H, W] as a screen shows them: one or three channels as they are, any other number by their mean.

    Example:
        >>> visible(torch.rand(2, 4, 8, 8)).shape, visible(torch.rand(3, 8, 8)).shape
        (torch.Size([2, 1, 8, 8]), torch.Size([3, 8, 8]))
    """
    return images if images.shape[-3] in (1, 3) else images.mean(dim=-3, keepdim=True)


def float_images(image: Tensor) -> Tensor:
    """Images as float32 in [0, 1]: uint8 is divided by 255, exactly as torchvision's ``ToTensor`` does it."""
    if image.dtype == torch.uint8:
        return image.float().div_(255)
    return image.float()


def canonical(images: Tensor) -> Tensor:
    """The images in float32, without a graph, where -0 is 0: those that are equal have equal bits."""
    return (images.detach().float() + 0.0).contiguous()


def digests(images: Tensor) -> list[str]:
    """32 hexadecimal digits for each image [N, ...], the same where shape and pixels are, on any device.

    Example:
        >>> x = torch.tensor([0.0, -0.0, 0.5]).view(3, 1, 1, 1)
        >>> len(set(digests(x)))
        2
    """
    shape = str(tuple(images.shape[1:])).encode()
    return [hashlib.sha256(shape + image.tobytes()).hexdigest()[:32] for image in canonical(images).cpu().numpy()]


def _shown(value: float) -> str:
    """Short, but never as if it lay inside where it does not."""
    short = f"{value:.3g}"
    return short if 0 <= value <= 1 or not 0 <= float(short) <= 1 else f"{value:.7g}"
