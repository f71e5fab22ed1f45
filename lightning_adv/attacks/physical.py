"""A simulated photograph of a print (Kurakin, Goodfellow, Bengio, Adversarial Examples in the Physical World, 2017).

Perspective and framing, the camera's resolution, blur, light, colour, sensor noise, JPEG, in this order.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.attacks.description import settings_of
from lightning_adv.attacks.noise import DeviceNoise, Noise, SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images

__all__ = ["PhysicalWorld"]

DRAWS = 15
"""Random numbers of an image besides noise and colour: 8 of corners, 3 of framing, blur, contrast, brightness, JPEG."""

BLOCK = 16
"""Pixels of a side of JPEG's blocks with halved colour."""


class PhysicalWorld(nn.Module):
    """Images as a camera would see their prints: images [N, C, H, W] in [0, 1] to images of the same shape.

    Differentiable. Called with the samples' numbers, what happens to an image is a function of (seed, number) alone.
    Called without, it is drawn anew every time: put before a classifier, ``nn.Sequential(PhysicalWorld(), model)``, it
    makes a randomised model, and ``EOT`` attacks it. Zero switches a part off.

    Args:
        perspective: most that a corner moves, as a share of the side.
        framing: most that the size changes and the centre moves, as a share of the side.
        resolution: the camera's, as a share of the image's; 1 keeps it.
        blur: largest deviation of the Gaussian, in pixels.
        contrast: most that differences from mid grey are scaled up or down, as a share.
        brightness: most that is added or taken, in pixel units of [0, 1].
        colour: most that a channel is scaled up or down, as a share; of images with several channels.
        noise: deviation of the sensor noise, in pixel units of [0, 1].
        quality: lowest quality of JPEG, 1 to 100; the highest is 95 or, where larger, this; None leaves JPEG out.
        seed: of what happens to a numbered image.

    Raises:
        InputError: an argument out of range; when called, images that are not [N, C, H, W], or not of 1 or 3 channels
            with JPEG.

    Example:
        >>> x, index = torch.rand(4, 3, 16, 16), torch.arange(4)
        >>> world = PhysicalWorld()
        >>> torch.equal(world(x, index), world(x, index)), torch.equal(world(x), world(x))
        (True, False)
    """

    def __init__(
        self,
        perspective: float = 0.05,
        framing: float = 0.05,
        resolution: float = 0.8,
        blur: float = 0.6,
        contrast: float = 0.2,
        brightness: float = 0.1,
        colour: float = 0.05,
        noise: float = 0.02,
        quality: int | None = 75,
        seed: int = 0,
    ) -> None:
        super().__init__()
        shares = {"perspective": perspective, "framing": framing, "contrast": contrast, "colour": colour}
        for name, value in shares.items():
            if not 0 <= value < 0.5:
                raise InputError(f"{name} must lie in [0, 0.5), got {value}")
        for name, value in {"blur": blur, "brightness": brightness, "noise": noise}.items():
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be finite and not negative, got {value}")
        if not 0 < resolution <= 1:
            raise InputError(f"resolution must lie in (0, 1], got {resolution}")
        if quality is not None and not 1 <= quality <= 100:
            raise InputError(f"quality must lie in 1 .. 100, or be None, got {quality}")
        self.perspective, self.framing, self.resolution, self.blur = perspective, framing, resolution, blur
        self.contrast, self.brightness, self.colour = contrast, brightness, colour
        self.noise, self.quality, self.seed = noise, quality, seed

    def forward(self, image: Tensor, index: Tensor | None = None) -> Tensor:
        """The photographs [N, C, H, W] in [0, 1], float32.

        Args:
            image: [N, C, H, W] in [0, 1].
            index: [N] numbers of the samples; None draws from the global generator.
        """
        check_images(image)
        if self.quality is not None and image.shape[1] not in (1, 3):
            raise InputError(f"a photograph needs images [N, 1 or 3, H, W], got shape {tuple(image.shape)}")
        if not len(image):
            return image
        noise: Noise = DeviceNoise() if index is None else SampleNoise(self.seed, index)
        with torch.autocast(image.device.type, enabled=False):
            return self._photograph(image.float(), noise)

    def extra_repr(self) -> str:
        """Settings, as in the configuration."""
        return ", ".join(f"{name}={value}" for name, value in settings_of(self).items())

    def _photograph(self, x: Tensor, noise: Noise) -> Tensor:
        chance = 2 * noise.uniform(x.new_zeros(len(x), DRAWS)) - 1  # [N, DRAWS] in [-1, 1)
        x = self._seen_from_the_side(x, chance[:, :8], chance[:, 8:11])
        x = self._in_focus(x, chance[:, 11])
        if self.contrast:
            x = 0.5 + (x - 0.5) * (1 + self.contrast * chance[:, 12].view(-1, 1, 1, 1))
        x = x + self.brightness * chance[:, 13].view(-1, 1, 1, 1)
        if x.shape[1] > 1:
            x = x * (1 + self.colour * (2 * noise.uniform(x.new_zeros(*x.shape[:2], 1, 1)) - 1))
        x = (x + self.noise * noise.normal(x)).clamp(0, 1)
        return x if self.quality is None else self._compressed(x, chance[:, 14])

    def _seen_from_the_side(self, x: Tensor, corners: Tensor, framing: Tensor) -> Tensor:
        if not (self.perspective or self.framing):
            return x
        from kornia.geometry import get_perspective_transform, warp_perspective

        height, width = x.shape[2:]
        side = x.new_tensor([width - 1, height - 1])
        square = x.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]).expand(len(x), -1, -1) / 2  # [N, 4, 2]
        moved = square * (1 + self.framing * framing[:, :1, None]) + self.framing * framing[:, None, 1:]
        moved = moved + self.perspective * corners.view(-1, 4, 2)
        matrix = get_perspective_transform((square + 0.5) * side, (moved + 0.5) * side)
        return warp_perspective(x, matrix, (height, width), padding_mode="border", align_corners=True)

    def _in_focus(self, x: Tensor, chance: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if self.resolution < 1:
            small = (max(1, round(self.resolution * height)), max(1, round(self.resolution * width)))
            x = F.interpolate(x, small, mode="bilinear", antialias=True)
            x = F.interpolate(x, (height, width), mode="bilinear")
        if not self.blur:
            return x
        from kornia.filters import gaussian_blur2d

        sigma = (self.blur * (chance + 1) / 2).clamp_min(1e-2)
        size = 2 * math.ceil(2.5 * self.blur) + 1
        fits = min(height, width) > size // 2
        return gaussian_blur2d(x, size, sigma[:, None].expand(-1, 2), "reflect" if fits else "replicate")

    def _compressed(self, x: Tensor, chance: Tensor) -> Tensor:
        from kornia.enhance import jpeg_codec_differentiable

        height, width = x.shape[2:]
        low, high = self.quality, max(95, self.quality)
        quality = low + (high - low) * (chance + 1) / 2
        blocks = F.pad(x.expand(-1, 3, -1, -1), (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
        coded = jpeg_codec_differentiable(blocks, quality)[..., :height, :width].clamp(0, 1)
        return coded if x.shape[1] == 3 else coded.mean(dim=1, keepdim=True)
