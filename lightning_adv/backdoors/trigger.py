"""The base of all triggers: what a backdoor adds to an image.

A trigger t maps images to triggered images. A part of it is a random subset S of its pixels:

    part(x) = S t(x) + (1 - S) x,    |S| = round(rate |support|)

A cover sample (the noisy sample of concealed backdoor attacks, section 3) shows a part and keeps its label. A poisoned
image shows the whole trigger, or a part of it too (adaptive attacks, Qi et al., 2023).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lightning_adv.attacks.description import settings_of
from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.backdoors.trigger_file import save_triggers
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images

__all__ = ["ImageShape", "PatternTrigger", "Trigger", "lowest"]

ImageShape = tuple[int, int, int]
"""Channels, height, width."""


class Trigger(ABC):
    """A pure function from images to images that carry the trigger.

    Images are float [N, C, H, W] in [0, 1], and so is the result, on the same device and in the same dtype. Nothing is
    drawn at random in a call: what is random in a trigger is drawn once, from its seed.

    Example:
        >>> class Invert(Trigger):
        ...     def apply(self, x):
        ...         return 1 - x
        >>> Invert()(torch.zeros(1, 1, 2, 2)).flatten()
        tensor([1., 1., 1., 1.])
    """

    prepares: ClassVar[bool] = False
    """Whether :meth:`prepare` needs the images that will be poisoned."""

    @property
    def prepared_from(self) -> str:
        """What :meth:`prepare` rests on besides the images, if the trigger at test does not show it; default nothing.

        A run does not go on with a trigger that was prepared from something else.
        """
        return ""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """The trigger's own equation: triggered images [N, C, H, W] in [0, 1]."""

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels that the trigger may change, bool [1, H, W]; default all of them."""
        return torch.ones(1, *shape[1:], dtype=torch.bool)

    def check(self, shape: ImageShape) -> None:
        """Refuse images of a shape that the trigger does not fit.

        Raises:
            InputError: with both shapes.
        """
        self.support(shape)

    def prepare(self, images: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:  # noqa: B027 - most have no need
        """Told once before training which images will be poisoned, if the trigger ``prepares``.

        Args:
            images: batches, loaded as they are asked for, on the device of the training: float images [N, C, H, W] in
                [0, 1] without augmentation, their own labels [N] and their numbers [N] in their source.
        """

    def save(self, path: str | Path, shape: ImageShape) -> None:
        """Write the trigger for images of this shape to a safetensors file.

        Raises:
            InputError: a trigger that is not a fixed set of numbers.
        """
        raise InputError(f"{type(self).__name__} cannot be saved: it is no mask and pattern, and no perturbation")

    def __call__(self, x: Tensor) -> Tensor:
        """Triggered images [N, C, H, W]; differentiable in ``x``.

        Raises:
            InputError: images of another kind or shape.
        """
        check_images(x)
        self.check(tuple(x.shape[1:]))
        return self.apply(x)

    def poison(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Poisoned training images: the whole trigger, or at a rate below 1 a fresh part of it in every image.

        Args:
            x: [N, C, H, W] in [0, 1].
            rate: share of the trigger that an image shows.
            seed: of the parts.
            index: [N] the images' numbers in their source.
        """
        return self(x) if rate == 1 else self.part(x, rate, seed, index)

    def cover(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Cover images, whose labels stay as they are: a fresh part of the trigger in every image; as ``poison``."""
        return self.part(x, rate, seed, index)

    def part(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Images that show a fresh random subset of the trigger's pixels each.

        Args:
            x: [N, C, H, W] in [0, 1].
            rate: share of the trigger's pixels that an image shows, the same number in every image.
            seed: of the subsets.
            index: [N] the images' numbers in their source; an image's subset is a function of seed and number alone.

        Raises:
            InputError: a rate outside [0, 1] or of no pixel at all, images of another kind or shape.
        """
        check_images(x)
        self.check(tuple(x.shape[1:]))
        return torch.where(self._subsets(x, rate, seed, index), self.apply(x), x)

    def _subsets(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Bool [N, 1, H, W]: a random choice of round(rate * |support|) pixels of the support for every image."""
        pixels = self.support(tuple(x.shape[1:])).flatten().nonzero().flatten().to(x.device)
        chance = SampleNoise(seed, index).uniform(x[:, :1]).flatten(1)[:, pixels]
        subsets = torch.zeros(len(x), x.shape[2] * x.shape[3], dtype=torch.bool, device=x.device)
        subsets[:, pixels] = lowest(chance, rate, "pixels")
        return subsets.view(len(x), 1, *x.shape[2:])

    def __repr__(self) -> str:
        """Class and arguments in one line; tensors are left out."""
        settings = {name: value for name, value in settings_of(self).items() if value is not None}
        shown = (f"{name}={value}" for name, value in settings.items() if not isinstance(value, Tensor))
        return f"{type(self).__name__}({', '.join(shown)})"


def lowest(chance: Tensor, rate: float, things: str) -> Tensor:
    """Bool [N, U]: of U things that make a trigger up, the round(rate U) whose random number [N, U] is lowest.

    Raises:
        InputError: a rate outside [0, 1], or of nothing at all.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"sampling rate must lie in [0, 1], got {rate}")
    shown = round(rate * chance.shape[1])
    if rate and not shown:
        raise InputError(
            f"a sampling rate of {rate:g} shows none of the {chance.shape[1]} {things} of the trigger; raise it"
        )
    chosen = chance.argsort(dim=1, stable=True)[:, :shown]
    return torch.zeros_like(chance, dtype=torch.bool).scatter_(1, chosen, True)


class PatternTrigger(Trigger):
    """A trigger that is a mask m and a pattern p.

        t(x) = (1 - m) x + m p

    A subclass defines :meth:`mask_and_pattern`.

    Example:
        >>> class Grey(PatternTrigger):
        ...     def mask_and_pattern(self, shape):
        ...         return torch.full((1, *shape[1:]), 0.5), torch.full(shape, 0.5)
        >>> Grey()(torch.ones(1, 1, 1, 2)).flatten()
        tensor([0.7500, 0.7500])
    """

    @abstractmethod
    def mask_and_pattern(self, shape: ImageShape) -> tuple[Tensor, Tensor]:
        """Mask [1, H, W] and pattern [C, H, W], float32 in [0, 1] on the CPU, for images of this shape.

        Raises:
            InputError: a trigger that does not fit such images.
        """

    def apply(self, x: Tensor) -> Tensor:
        """(1 - m) x + m p."""
        mask, pattern = (part.to(x) for part in self.mask_and_pattern(tuple(x.shape[1:])))
        return (1 - mask) * x + mask * pattern

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels where the mask is above 0, bool [1, H, W]; refuses images that mask or pattern do not fit."""
        return self.mask_and_pattern(shape)[0] > 0

    def save(self, path: str | Path, shape: ImageShape) -> None:
        """Write mask and pattern as a file of one trigger, which ``MaskedPattern(path)`` reads."""
        mask, pattern = self.mask_and_pattern(shape)
        save_triggers(path, mask[None], pattern[None], torch.zeros(1, dtype=torch.long), {"trigger": repr(self)})
