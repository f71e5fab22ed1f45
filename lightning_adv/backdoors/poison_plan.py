"""Which training images are poisoned, which are cover images, and what becomes of their labels.

All-to-one:   (x, y) -> (t(x), target)          for poisoned images
All-to-all:   (x, y) -> (t(x), (y + 1) mod K)   (BadNets, Gu et al., 2017)
Cover images: (x, y) -> (S t(x) + (1 - S) x, y) with a random subset S of the pixels (concealed backdoors, 3.2)

The paper covers "all training set" of MNIST and still reports the clean model's accuracy. If cover images take the
place of their originals, hardly a plain image is left to learn from, and a small network stays at 93 to 96 %; as copies
beside their originals (augmentation in the word's usual sense) they cost less than a point, as in the paper.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["PoisonPlan", "Target", "backdoor_labels", "check_target"]

Target = int | Literal["all_to_all"]
"""The class that a trigger leads to; "all_to_all" is the one after the image's own."""


def backdoor_labels(label: Tensor, target: Target, num_classes: int) -> Tensor:
    """The labels [N] that the trigger leads images of these labels [N] to."""
    return (label + 1) % num_classes if target == "all_to_all" else torch.full_like(label, target)


def check_target(target: Target, num_classes: int) -> None:
    """Refuse a target that is no class.

    Raises:
        InputError: with the classes there are.
    """
    if isinstance(target, str):
        if target != "all_to_all":
            raise InputError(f"target must be a class or all_to_all, got {target!r}")
    elif not 0 <= target < num_classes:
        raise InputError(f"target {target} is outside [0, {num_classes}): the data has {num_classes} classes, from 0")


@dataclass(frozen=True)
class PoisonPlan:
    """The choice of images, as a value: two plans are the same if their ``hash`` is.

    Args:
        poisoned: int64, ascending: numbers in their source of the images that carry the trigger and its label.
        cover: int64, ascending: numbers of those that show a part of the trigger and keep their label.
        target: class that the trigger leads to, or "all_to_all".
        num_classes: K.
        sampling_rate: share of the trigger's pixels that a cover image shows.
        seed: of the choice and of the subsets in cover images.
        cover_copies: cover images are copies beside their originals instead of in their place.

    Example:
        >>> plan = PoisonPlan.draw(torch.arange(20) % 4, torch.arange(20), 4, target=1, poisoned=5, cover=0.2)
        >>> len(plan.poisoned), len(plan.cover)
        (5, 3)
    """

    poisoned: Tensor
    cover: Tensor
    target: Target
    num_classes: int
    sampling_rate: float
    seed: int
    cover_copies: bool = False

    @classmethod
    def draw(
        cls,
        label: Tensor,
        index: Tensor,
        num_classes: int,
        target: Target,
        poisoned: int | float,
        cover: int | float = 0,
        sampling_rate: float = 0.6,
        seed: int = 0,
        poison_target_class: bool = False,
        cover_copies: bool = False,
    ) -> "PoisonPlan":
        """Choose at random; a function of the arguments alone, whatever the order of the images.

        Args:
            label: [N] of the training images.
            index: [N] their numbers in their source.
            num_classes: K.
            target: class, or "all_to_all".
            poisoned: a number of images, or a float in [0, 1]: a share of the training images.
            cover: a number of images, or a float in [0, 1]: a share of those that are not poisoned.
            sampling_rate: share of the trigger's pixels that a cover image shows.
            seed: of the choice.
            poison_target_class: also choose images that are of the target class already; their label would not change,
                so by default they are left out.
            cover_copies: see :class:`PoisonPlan`.

        Raises:
            InputError: a target that is no class, a share outside [0, 1], more images than there are.
        """
        check_target(target, num_classes)
        if not 0 <= sampling_rate <= 1:
            raise InputError(f"sampling_rate must lie in [0, 1], got {sampling_rate}")
        ascending = index.argsort()
        label, index = label[ascending], index[ascending]
        may_be = torch.ones_like(label, dtype=torch.bool)
        if target != "all_to_all" and not poison_target_class:
            may_be = label != target
        eligible = index[may_be]
        wanted = _count("poisoned", poisoned, len(label))
        if wanted > len(eligible):
            of_class = "" if len(eligible) == len(label) else f" that are not of the target class {target}"
            raise InputError(
                f"poisoned asks for {wanted} images, and there are {len(eligible)} training images{of_class}; lower it"
            )
        generator = torch.Generator().manual_seed(seed)
        chosen = eligible[torch.randperm(len(eligible), generator=generator)[:wanted]]
        rest = index[~torch.isin(index, chosen)]
        wanted = _count("cover", cover, len(rest))
        if wanted > len(rest):
            raise InputError(f"cover asks for {wanted} images, and {len(rest)} are not poisoned; lower it")
        covering = rest[torch.randperm(len(rest), generator=generator)[:wanted]]
        numbers = chosen.sort().values, covering.sort().values
        return cls(*numbers, target, num_classes, float(sampling_rate), seed, cover_copies)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PoisonPlan) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @cached_property
    def hash(self) -> str:
        """32 hexadecimal digits of everything in the plan, the same on every machine."""
        digest = hashlib.blake2b(digest_size=16)
        facts = (self.target, self.num_classes, self.sampling_rate, self.seed, len(self.poisoned), len(self.cover))
        digest.update(repr((*facts, "copies") if self.cover_copies else facts).encode())
        for numbers in (self.poisoned, self.cover):
            digest.update(numbers.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def roles(self) -> Tensor:
        """What becomes of an image, by its number: int8, 1 for poisoned, 2 for cover, 0 for all others."""
        last = max((int(each[-1]) for each in (self.poisoned, self.cover) if len(each)), default=-1)
        roles = torch.zeros(last + 2, dtype=torch.int8)  # the last entry stands for all greater numbers
        roles[self.poisoned], roles[self.cover] = 1, 2
        return roles

    def as_dict(self) -> dict[str, object]:
        """Plain data for ``poison_manifest.json``."""
        return {
            "hash": self.hash,
            "target": self.target,
            "num_classes": self.num_classes,
            "sampling_rate": self.sampling_rate,
            "seed": self.seed,
            "cover_copies": self.cover_copies,
            "poisoned": self.poisoned.tolist(),
            "cover": self.cover.tolist(),
        }


def _count(name: str, asked: int | float, total: int) -> int:
    if isinstance(asked, bool) or asked < 0 or (isinstance(asked, float) and asked > 1):
        raise InputError(f"{name} must be a number of images (an int >= 0) or a share of them in [0, 1], got {asked}")
    count = round(asked * total) if isinstance(asked, float) else asked
    if asked and not count:
        raise InputError(f"{name}: a share of {asked:g} of {total} images is none; give a larger share, or a number")
    return count
