"""Reduction of the colour depth (feature squeezing; Xu, Evans, Qi, 2018)."""

from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["BitDepth"]


class BitDepth(Purifier):
    """Every value becomes the nearest of 2^bits evenly spaced ones: round(x (2^bits - 1)) / (2^bits - 1).

    Args:
        bits: of a value, 1 to 8.

    Raises:
        InputError: bits out of range.

    Example:
        >>> BitDepth(bits=1)(torch.tensor([0.2, 0.7]).view(1, 1, 1, 2)).flatten()
        tensor([0., 1.])
    """

    differentiable = False

    def __init__(self, bits: int = 3) -> None:
        super().__init__()
        if not 1 <= bits <= 8:
            raise InputError(f"bits must lie in 1 .. 8, got {bits}")
        self.bits = bits

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """Rounded to 2^bits levels."""
        steps = 2**self.bits - 1
        return (x * steps).round() / steps
