"""JPEG compression (as a defence: Dziugaite, Ghahramani, Roy, 2016; Guo et al., 2018)."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.gradients import MEMORY, fitting
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["JPEG", "DifferentiableJPEG"]

BLOCK = 16
"""Side of what the codec compresses at a time, the colours at half their size."""

KEPT = 18
"""Numbers that a backward pass through kornia's codec keeps for each number of an image in colour."""


class JPEG(Purifier):
    """Compressed and decompressed by the real codec, bit for bit what Pillow writes and reads (4:2:0).

    Attacks differentiate the mean of the identity and :class:`DifferentiableJPEG` in its place: alone, the first is the
    weaker at low quality, and the second, whose gradient vanishes with small coefficients, at high quality.

    Args:
        quality: 1 to 95, as libjpeg counts it; 100 is allowed.

    Raises:
        InputError: quality out of range; at the call, images of other than 1 or 3 channels.

    Example:
        >>> JPEG(quality=90)(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 3, 16, 16])
    """

    differentiable = False

    def __init__(self, quality: int = 90) -> None:
        super().__init__()
        self.quality = _checked(quality)

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """decode(encode(x)); images are rounded to whole grey levels first."""
        _check_channels(x)
        levels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:  # the codec releases the GIL
            decoded = np.stack(list(pool.map(self._through_the_codec, levels)))
        return torch.from_numpy(decoded).to(x.device).permute(0, 3, 1, 2).float() / 255

    def surrogate(self, x: Tensor) -> Tensor:
        """The mean of the image and of what kornia's differentiable codec makes of it."""
        return (x + DifferentiableJPEG(self.quality)(x)) / 2

    def _through_the_codec(self, pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file)).reshape(pixels.shape)


class DifferentiableJPEG(Purifier):
    """kornia's differentiable codec (Reich et al., 2024): about two grey levels (mean) from the real one.

    Images are padded to whole blocks by repeating their edges. Grey images go through the luma channel. The codec keeps
    some 17 numbers for each number of an image; images go through it at most 32 at a time, and their gradients too.

    Args:
        quality: 1 to 100.
        memory: MiB that the graph of the exact gradient may take; of one image at least.

    Raises:
        InputError: quality or memory out of range; at the call, images of other than 1 or 3 channels.

    Example:
        >>> x = torch.rand(1, 1, 8, 8, requires_grad=True)
        >>> DifferentiableJPEG(quality=50)(x).sum().backward()
        >>> bool(x.grad.isfinite().all())
        True
    """

    chunk = 32
    forgets = True

    def __init__(self, quality: int = 90, memory: float = MEMORY) -> None:
        super().__init__()
        if not 0 < memory < float("inf"):
            raise InputError(f"memory must be a positive number of MiB, got {memory}")
        self.quality, self.memory = _checked(quality), memory

    def chunk_of(self, x: Tensor) -> int:
        """As many as fit into the memory, at most ``chunk``."""
        height, width = (size + -size % BLOCK for size in x.shape[2:])
        return min(self.chunk, fitting(torch.empty(1, 3, height, width, device="meta"), KEPT, self.memory))

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """kornia's codec on RGB images of whole 16 x 16 blocks."""
        from kornia.enhance import jpeg_codec_differentiable

        _check_channels(x)
        height, width = x.shape[2:]
        rgb = x.expand(-1, 3, -1, -1)
        blocks = torch.nn.functional.pad(rgb, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
        quality = torch.full((len(x),), float(self.quality), device=x.device)
        coded = jpeg_codec_differentiable(blocks, quality)[..., :height, :width]
        return coded if x.shape[1] == 3 else coded.mean(dim=1, keepdim=True)


def _checked(quality: int) -> int:
    if not 1 <= quality <= 100:
        raise InputError(f"quality must lie in 1 .. 100, got {quality}")
    return quality


def _check_channels(x: Tensor) -> None:
    if x.shape[1] not in (1, 3):
        raise InputError(f"JPEG takes images of 1 or 3 channels, got {x.shape[1]}")
