"""The base of all purifiers: everything that is not the purifier's own equation."""

from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Tensor, nn

from lightning_adv.attacks import BPDA, SampleNoise
from lightning_adv.attacks.description import settings_of
from lightning_adv.attacks.noise import content_index
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images
from lightning_adv.purifiers.gradients import recomputed

__all__ = ["Purifier", "into_the_box"]


class Purifier(nn.Module, ABC):
    """Images cleaned of what an attacker may have added, before a classifier sees them.

    A subclass is its hyperparameters and one method, :meth:`purify`. What holds for every purifier:

    - images are float in [0, 1], N x C x H x W; the result is float32 in [0, 1], of the same shape, on the same device;
    - a sample's result does not depend on its batch, bit for bit: noise comes from (seed, index, draw) alone, and
      networks see ``chunk`` images at a time;
    - it works under ``inference_mode`` and autocast, in float32.

    It is a module only for the weights that some purifiers hold; these are frozen.

    Args:
        seed: of the noise of a randomised purifier.

    Example:
        >>> class Darken(Purifier):
        ...     def purify(self, x, noise):
        ...         return 0.5 * x
        >>> Darken()(torch.ones(1, 1, 1, 2)).flatten()
        tensor([0.5000, 0.5000])
    """

    randomised: bool = False
    """Whether two draws for one image differ."""

    differentiable: bool = True
    """Whether gradients through :meth:`purify` are those of what it computes."""

    chunk: int | None = None
    """Images that :meth:`purify` is given at a time, always as many, the last one repeated; None for all at once.

    A network's sums are rounded in an order that the size of its batch decides: in equal batches bits are equal.
    """

    forgets: bool = False
    """Whether a backward pass computes every chunk again, so that the graph of one is held at a time."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    @abstractmethod
    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """The purifier's own equation on float32 images [N, C, H, W]; what leaves [0, 1] is clamped by the caller."""

    def surrogate(self, x: Tensor) -> Tensor:
        """A smooth stand-in whose gradient BPDA uses; default the identity."""
        return x

    def forward(self, x: Tensor, index: Tensor | None = None, draw: int = 0) -> Tensor:
        """Purified images [N, C, H, W], float32 in [0, 1].

        Differentiable in ``x`` where the purifier is, the final clamp passed straight through; otherwise the result
        has no gradient.

        Args:
            x: images, float in [0, 1].
            index: [N] numbers of the samples in their data set, which key the noise; default a number made from each
                image's pixels.
            draw: number of the draw.

        Raises:
            InputError: what are no images, or an index of the wrong shape.
        """
        check_images(x)
        if index is not None and index.shape != (len(x),):
            raise InputError(f"index must be {len(x)} integers, one an image, got shape {tuple(index.shape)}")
        if not len(x):
            return x.float()
        index = content_index(x) if index is None else index.to(x.device)
        noise = SampleNoise(self.seed, index, draw)
        with torch.autocast(x.device.type, enabled=False), torch.set_grad_enabled(self._wants_gradient(x)):
            return into_the_box(self.purify_in_chunks(x.float(), noise))

    def purify_in_chunks(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """:meth:`purify` of ``chunk`` images at a time: bits that do not depend on the size of the batch."""
        chunk = self.chunk_of(x)
        if chunk is None:
            return self.purify(x, noise)
        parts = []
        for rows in torch.arange(len(x), device=x.device).split(chunk):
            full = rows[torch.arange(chunk, device=x.device).clamp_max(len(rows) - 1)]
            purify = partial(self.purify, noise=noise.select(full))
            parts.append((recomputed(purify, x[full]) if self.forgets else purify(x[full]))[: len(rows)])
        return torch.cat(parts)

    def chunk_of(self, x: Tensor) -> int | None:
        """``chunk`` for images of this size [N, C, H, W], a function of their size alone."""
        return self.chunk

    def with_gradient(self, x: Tensor, index: Tensor | None = None, draw: int = 0) -> Tensor:
        """The same with the best gradient that is known: exact where there is one, else that of the surrogate."""
        if self.differentiable:
            return self(x, index, draw)
        return BPDA(lambda image: self(image, index, draw), self.surrogate)(x)

    def _wants_gradient(self, x: Tensor) -> bool:
        return self.differentiable and torch.is_grad_enabled() and x.requires_grad

    def extra_repr(self) -> str:
        """Hyperparameters, as in the configuration."""
        values = {name: value for name, value in settings_of(self).items() if name != "seed" and value is not None}
        return ", ".join(f"{n}={v}" for n, v in values.items() if not isinstance(v, (nn.Module, list, dict)))


def into_the_box(x: Tensor) -> Tensor:
    """Clamped to [0, 1], with the gradient of the identity.

    The clamp's own gradient is zero where a black or white pixel is overshot by a rounding error: a masked gradient,
    which no attacker would put up with.
    """
    if not x.requires_grad:
        return x.clamp(0, 1)
    return x.detach().clamp(0, 1) + (x - x.detach())
