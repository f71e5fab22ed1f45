"""A picture blended into the whole image (Chen et al., Targeted backdoor attacks on deep learning systems, 2017).

x' = (1 - alpha) x + alpha p
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger
from lightning_adv.errors import InputError
from lightning_adv.pictures import read_picture

__all__ = ["Blend"]


class Blend(PatternTrigger):
    """A picture from a file, or noise drawn once, at a constant opacity.

    Args:
        alpha: opacity in (0, 1].
        picture: image file, resized to the images; default noise.
        seed: of the noise, U[0, 1] for every pixel and channel.

    Raises:
        InputError: an alpha outside (0, 1], a picture that cannot be read.

    Example:
        >>> x = torch.zeros(1, 1, 2, 2)
        >>> (Blend(alpha=0.25)(x) <= 0.25).all()
        tensor(True)
    """

    def __init__(self, alpha: float = 0.2, picture: str | None = None, seed: int = 0) -> None:
        if not 0 < alpha <= 1:
            raise InputError(f"alpha of a blend must lie in (0, 1], got {alpha}")
        self.alpha, self.picture, self.seed = alpha, picture, seed
        self._drawn: dict[ImageShape, Tensor] = {}
        if picture is not None:
            self._read((1, 1, 1))

    def mask_and_pattern(self, shape: ImageShape) -> tuple[Tensor, Tensor]:
        """alpha everywhere; the picture or the noise.

        Raises:
            InputError: a picture for images that have neither 1 nor 3 channels.
        """
        if shape not in self._drawn:
            noise = torch.rand(shape, generator=torch.Generator().manual_seed(self.seed))
            self._drawn[shape] = noise if self.picture is None else self._read(shape)
        return torch.full((1, *shape[1:]), self.alpha), self._drawn[shape]

    def _read(self, shape: ImageShape) -> Tensor:
        channels, height, width = shape
        if channels not in (1, 3):
            raise InputError(f"a picture is blended into images of 1 or 3 channels, these have {channels}")
        picture = read_picture(Path(self.picture).expanduser(), "L" if channels == 1 else "RGB")
        resized = picture.resize((width, height), Image.Resampling.BOX)
        return torch.from_numpy(np.array(resized)).reshape(height, width, channels).permute(2, 0, 1).float() / 255
