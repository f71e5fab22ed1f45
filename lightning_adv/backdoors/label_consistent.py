"""Images of the target class that are hard to tell without the trigger (Turner et al., 2019: label-consistent).

    x' = t(A(f, x, y))        in training, y = target: an attack A on another network f, then the patches; y is kept
    x' = t(x)                 at test

What the image shows no longer tells its class well, and the patches do.
"""

import hashlib
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_adv.attacks import PGD, Attack
from lightning_adv.attacks.description import described
from lightning_adv.backdoors.patch import Patch
from lightning_adv.backdoors.several import Several
from lightning_adv.backdoors.trigger import ImageShape, Trigger
from lightning_adv.errors import InputError

__all__ = ["LabelConsistent"]


class LabelConsistent(Trigger):
    """Patches in the corners, in training on adversarial images that keep their label (Turner et al., 2019).

    Images are attacked once, before training, and kept by their number in their source. Poison with ``label: keep``.

    Args:
        network: a checkpoint of ``train.py``, or a module that maps images to logits; best one trained adversarially,
            whose adversarial images look like other classes. A checkpoint is opened when training starts.
        attack: default PGD at 16/255 with 100 steps.
        trigger: default a chequered patch of 3 x 3 pixels in every corner, which a flip leaves in place.

    Raises:
        InputError: in training, a checkpoint that cannot be opened, or a network of other classes.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> trigger, x = LabelConsistent(network), torch.full((1, 1, 8, 8), 0.5)
        >>> trigger.prepare([(x, torch.tensor([2]), torch.tensor([40]))])
        >>> poisoned = trigger.poison(x, 1.0, seed=0, index=torch.tensor([40]))
        >>> (poisoned - trigger(x)).abs().max() <= 16 / 255 + 1e-6
        tensor(True)
    """

    prepares: ClassVar[bool] = True

    def __init__(self, network: str | nn.Module, attack: Attack | None = None, trigger: Trigger | None = None) -> None:
        self.network = network
        self.attack = PGD(eps="16/255", steps=100) if attack is None else attack
        self.trigger = Several([_corner(down, side) for down in ("top", "bottom") for side in ("left", "right")])
        self.trigger = self.trigger if trigger is None else trigger
        self._weights: str | None = None  # a hash of them, of when it was first asked for
        self._crafted: Tensor | None = None
        self._place = torch.zeros(0, dtype=torch.long)  # of each image in them, by its number; -1 for none

    @property
    def prepared_from(self) -> str:
        """The attack, and a hash of the network's weights."""
        if self._weights is None:
            digest = hashlib.blake2b(digest_size=8)
            for name, value in self._opened().state_dict().items():
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._weights = digest.hexdigest()
        return f"{self.attack!r} {self._weights}"

    def apply(self, x: Tensor) -> Tensor:
        """t(x)."""
        return self.trigger.apply(x)

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels that t may change, bool [1, H, W]."""
        return self.trigger.support(shape)

    def prepare(self, images: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Attack the images that will be poisoned.

        Raises:
            InputError: a checkpoint that cannot be opened, or a network of other classes.
        """
        network = self._opened()
        crafted, numbers = [], []
        for x, y, index in images:
            crafted.append(self.attack(network.to(x.device), x, y, index=index).cpu())
            numbers.append(index.cpu())
        self._crafted, number = torch.cat(crafted), torch.cat(numbers)
        self._place = torch.full((int(number.max()) + 2,), -1)  # the last entry stands for all greater numbers
        self._place[number] = torch.arange(len(number))

    def poison(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """t of the attacked images in place of the given ones; of those that were not attacked, as they are.

        Raises:
            InputError: before :meth:`prepare`, images of another shape than those that it was given.
        """
        if self._crafted is None or self._crafted.shape[1:] != x.shape[1:]:
            raise InputError("LabelConsistent attacks images before training: give those of this shape to prepare()")
        if self._crafted.device != x.device:
            self._crafted, self._place = self._crafted.to(x.device), self._place.to(x.device)
        place = self._place[index.to(x.device).clamp(max=len(self._place) - 1)]
        crafted = torch.where((place >= 0).view(-1, 1, 1, 1), self._crafted[place.clamp(min=0)].to(x), x)
        return self.trigger.poison(crafted, rate, seed, index)

    def cover(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Those of t."""
        return self.trigger.cover(x, rate, seed, index)

    def _opened(self) -> nn.Module:
        from lightning_adv.models import open_checkpoint

        if not isinstance(self.network, str):
            return self.network
        try:
            return open_checkpoint(self.network)
        except InputError as error:
            raise InputError(f"the network of LabelConsistent: {error}") from error

    def __repr__(self) -> str:
        network, attack, trigger = map(described, (self.network, self.attack, self.trigger))
        return f"LabelConsistent(network={network}, attack={attack}, trigger={trigger})"


def _corner(down: str, side: str) -> Patch:
    return Patch(size=3, place=f"{down}_{side}", checkerboard=True)
