"""Random pixels with random values: the randomly-generated-trigger attack (concealed backdoors, Algorithm 2).

x' = (1 - m) x + m p        with m = 1 in z random pixels and every element of p random
"""

import torch
from torch import Tensor

from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger
from lightning_adv.errors import InputError

__all__ = ["RandomPattern"]


class RandomPattern(PatternTrigger):
    """z pixels drawn without replacement, each of one of 256 grey levels in every channel.

    Args:
        z: pixels of the mask; the paper has 36 on MNIST, 30 on GTSRB, 16 on YouTube Faces.
        seed: of mask and pattern; the same seed gives the same trigger for images of one shape.

    Raises:
        InputError: z below 1; in a call, images with fewer pixels than z.

    Example:
        >>> (RandomPattern(z=3, seed=1).mask_and_pattern((1, 4, 4))[0] == 1).sum()
        tensor(3)
    """

    def __init__(self, z: int = 36, seed: int = 0) -> None:
        if z < 1:
            raise InputError(f"z, the number of random pixels, must be at least 1, got {z}")
        self.z, self.seed = z, seed
        self._drawn: dict[ImageShape, tuple[Tensor, Tensor]] = {}

    def mask_and_pattern(self, shape: ImageShape) -> tuple[Tensor, Tensor]:
        """1 in z pixels; grey levels of U{0, ..., 255}/255.

        Raises:
            InputError: images with fewer pixels than z.
        """
        if shape not in self._drawn:
            self._drawn[shape] = self._draw(shape)
        return self._drawn[shape]

    def _draw(self, shape: ImageShape) -> tuple[Tensor, Tensor]:
        pixels = shape[1] * shape[2]
        if self.z > pixels:
            raise InputError(f"z = {self.z} random pixels do not fit images of {shape[1]} x {shape[2]}")
        generator = torch.Generator().manual_seed(self.seed)
        mask = torch.zeros(pixels)
        mask[torch.randperm(pixels, generator=generator)[: self.z]] = 1
        return mask.view(1, *shape[1:]), torch.randint(256, shape, generator=generator) / 255
