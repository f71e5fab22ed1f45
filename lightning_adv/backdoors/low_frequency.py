"""A smooth perturbation that leaves no trace in high frequencies (Zeng et al., 2021).

    x' = clip(x + v),        v = lowpass(v): a sum of the first b x b cosines of each channel

Zeng et al. find v for a network: ``universal_perturbation(..., bands=b)``. Without one, v is drawn.
"""

import torch
from torch import Tensor

from lightning_adv.attacks.budget import Budget, as_eps, as_text
from lightning_adv.backdoors.perturbation import AdditiveTrigger
from lightning_adv.backdoors.spectrum import lowpass
from lightning_adv.backdoors.trigger import ImageShape
from lightning_adv.errors import InputError

__all__ = ["LowFrequency"]


class LowFrequency(AdditiveTrigger):
    """Broad clouds: cosines of the lowest frequencies, drawn once (Zeng et al., 2021).

    Args:
        eps: largest change of a pixel in units of [0, 1], a number or a fraction.
        bands: b, frequencies along each side, the constant included.
        seed: of the coefficients, N(0, 1).

    Raises:
        InputError: an eps outside (0, 1], bands below 2; in a call, images with fewer pixels a side than bands.

    Example:
        >>> LowFrequency(eps=0.1)(torch.full((1, 3, 8, 8), 0.5)).sub(0.5).abs().max()
        tensor(0.1000)
    """

    def __init__(self, eps: Budget = "16/255", bands: int = 4, seed: int = 0) -> None:
        self.eps, self.bands, self.seed = as_eps(eps, "Linf"), bands, seed
        if not self.eps or bands < 2:
            raise InputError(f"eps must be above 0 and bands at least 2, got {eps} and {bands}")
        self._drawn: dict[ImageShape, Tensor] = {}

    def perturbation(self, shape: ImageShape) -> Tensor:
        """The clouds, scaled so that eps is reached.

        Raises:
            InputError: images with fewer pixels a side than bands.
        """
        if shape not in self._drawn:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed))
            clouds = lowpass(noise, self.bands)
            self._drawn[shape] = self.eps * clouds / clouds.abs().max()
        return self._drawn[shape]

    def __repr__(self) -> str:
        return f"LowFrequency(eps={as_text(self.eps)}, bands={self.bands}, seed={self.seed})"
