"""Which training images are poisoned, which are cover images, and what becomes of their labels.

All-to-one:   (x, y) -> (t(x), target)          for poisoned images
All-to-all:   (x, y) -> (t(x), (y + 1) mod K)   (BadNets, Gu et al., 2017)
Clean label:  (x, target) -> (t(x), target)     only images of the target class, relabelled never (Turner et al., 2018)
One source:   (x, s) -> (t(x), target)          and images of other classes are cover images (TaCT, Tang et al., 2021)
Cover images: (x, y) -> (S t(x) + (1 - S) x, y) with a random subset S of the pixels (concealed backdoors, 3.2)

The paper covers "all training set" of MNIST and still reports the clean model's accuracy. If cover images take the
place of their originals, hardly a plain image is left to learn from, and a small network stays at 93 to 96 %; as copies
beside their originals (augmentation in the word's usual sense) they cost less than a point, as in the paper.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = [
    "PoisonPlan",
    "PoisonedLabel",
    "RateOf",
    "Target",
    "backdoor_labels",
    "check_classes",
    "check_rates",
    "check_target",
]

Target = int | Literal["all_to_all"]
"""The class that a trigger leads to; "all_to_all" is the one after the image's own."""

PoisonedLabel = Literal["target", "keep"]
"""What a poisoned image is labelled: the trigger's target; or, images of the target class alone, as it was."""

RateOf = Literal["set", "class"]
"""What a share of images is of: all training images, or those of the classes that the choice is made from."""


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


def check_classes(
    target: Target,
    num_classes: int,
    poisoned_label: PoisonedLabel,
    source_classes: Sequence[int] | None,
    cover_classes: Sequence[int] | None,
) -> None:
    """Refuse classes that contradict each other, or that are none.

    Raises:
        InputError: a source that is the target, a class that is poisoned and covers, a clean label without one target.
    """
    check_target(target, num_classes)
    for name, classes in (("source_classes", source_classes), ("cover_classes", cover_classes)):
        if classes is not None and not (classes and all(0 <= k < num_classes for k in classes)):
            raise InputError(
                f"{name} must name at least one of the classes 0 to {num_classes - 1}, got {list(classes)}"
            )
    if poisoned_label not in get_args(PoisonedLabel):
        raise InputError(f"label of poisoned images must be target or keep, got {poisoned_label!r}")
    if poisoned_label == "keep" and isinstance(target, str):
        raise InputError("poisoned images that keep their label are of one target class: name it instead of all_to_all")
    if poisoned_label == "keep" and source_classes is not None:
        raise InputError("poisoned images that keep their label are of the target class: leave source_classes out")
    if target in (source_classes or ()):
        raise InputError(f"source_classes names the target {target}, whose images need no trigger; leave it out")
    poisoned = [target] if poisoned_label == "keep" else source_classes or ()
    both = sorted({*poisoned} & {*(cover_classes or ())})
    if both:
        raise InputError(
            f"class {both[0]} is poisoned and in cover_classes, which contradict each other; leave one out"
        )


def check_rates(sampling_rate: float, poisoned_sampling_rate: float, rate_of: RateOf) -> None:
    """Refuse shares that are none.

    Raises:
        InputError: a share of a trigger outside [0, 1], poisoned images that show nothing of it.
    """
    if not 0 <= sampling_rate <= 1:
        raise InputError(f"sampling_rate must lie in [0, 1], got {sampling_rate}")
    if not 0 < poisoned_sampling_rate <= 1:
        raise InputError(f"poisoned_sampling_rate must lie in (0, 1], got {poisoned_sampling_rate}")
    if rate_of not in get_args(RateOf):
        raise InputError(f"rate_of must be set or class, got {rate_of!r}")


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
        label: "target", or "keep" where poisoned images are of the target class and keep their label.
        source_classes: classes whose images the trigger leads to the target; None for all.
        cover_classes: classes that cover images are of; None for all but the source classes.
        poisoned_sampling_rate: share of the trigger that a poisoned image shows.

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
    label: PoisonedLabel = "target"
    source_classes: tuple[int, ...] | None = None
    cover_classes: tuple[int, ...] | None = None
    poisoned_sampling_rate: float = 1.0

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
        poisoned_label: PoisonedLabel = "target",
        source_classes: Sequence[int] | None = None,
        cover_classes: Sequence[int] | None = None,
        rate_of: RateOf = "set",
        poisoned_sampling_rate: float = 1.0,
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
            poisoned_label: "target", or "keep" to choose images of the target class alone and relabel none.
            source_classes: only images of these classes are poisoned; default all but the target.
            cover_classes: only images of these classes are cover images; default all but the source classes.
            rate_of: "set" or "class": shares are of those images alone that are of a class to choose from.
            poisoned_sampling_rate: share of the trigger that a poisoned image shows.

        Raises:
            InputError: a target that is no class, classes that contradict each other, a share outside [0, 1] or of no
                image, more images than there are.
        """
        check_classes(target, num_classes, poisoned_label, source_classes, cover_classes)
        check_rates(sampling_rate, poisoned_sampling_rate, rate_of)
        ascending = index.argsort()
        label, index = label[ascending], index[ascending]
        may_be, which = torch.ones_like(label, dtype=torch.bool), ""
        if poisoned_label == "keep":
            may_be, which = label == target, f" of the target class {target}"
        elif source_classes is not None:
            may_be, which = _is_of(label, source_classes), f" of {_named(source_classes)}"
        elif target != "all_to_all" and not poison_target_class:
            may_be, which = label != target, f" that are not of the target class {target}"
        generator = torch.Generator().manual_seed(seed)
        wanted = _count("poisoned", poisoned, int(may_be.sum()) if rate_of == "class" else len(label))
        chosen = _some("poisoned", wanted, index[may_be], which, generator)
        clean = ~torch.isin(index, chosen)
        may_be, which = clean, " that are not poisoned"
        if cover_classes is not None:
            may_be, which = clean & _is_of(label, cover_classes), f" of {_named(cover_classes)}{which}"
        elif source_classes is not None:
            may_be, which = clean & ~_is_of(label, source_classes), f" that are not of {_named(source_classes)}"
        wanted = _count("cover", cover, int((may_be if rate_of == "class" else clean).sum()))
        covering = _some("cover", wanted, index[may_be], which, generator)
        return cls(
            chosen,
            covering,
            target,
            num_classes,
            float(sampling_rate),
            seed,
            cover_copies,
            poisoned_label,
            *(None if classes is None else tuple(sorted({*classes})) for classes in (source_classes, cover_classes)),
            float(poisoned_sampling_rate),
        )

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
        added = {name: value for name, value in self._added().items() if value != vars(PoisonPlan)[name]}
        digest.update(repr(added).encode() if added else b"")  # a plan without them has the hash it always had
        for numbers in (self.poisoned, self.cover):
            digest.update(numbers.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def led(self, label: Tensor) -> Tensor:
        """What training is told of poisoned images of these labels [N]."""
        return label if self.label == "keep" else backdoor_labels(label, self.target, self.num_classes)

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
            **self._added(),
            "poisoned": self.poisoned.tolist(),
            "cover": self.cover.tolist(),
        }

    def _added(self) -> dict[str, object]:
        names = ("label", "source_classes", "cover_classes", "poisoned_sampling_rate")
        return {name: vars(self)[name] for name in names}


def _count(name: str, asked: int | float, total: int) -> int:
    if isinstance(asked, bool) or asked < 0 or (isinstance(asked, float) and asked > 1):
        raise InputError(f"{name} must be a number of images (an int >= 0) or a share of them in [0, 1], got {asked}")
    count = round(asked * total) if isinstance(asked, float) else asked
    if asked and not count:
        raise InputError(f"{name}: a share of {asked:g} of {total} images is none; give a larger share, or a number")
    return count


def _some(name: str, wanted: int, eligible: Tensor, which: str, generator: torch.Generator) -> Tensor:
    """So many of these numbers, ascending."""
    if wanted > len(eligible):
        raise InputError(
            f"{name} asks for {wanted} images, and there are {len(eligible)} training images{which}; lower it"
        )
    return eligible[torch.randperm(len(eligible), generator=generator)[:wanted]].sort().values


def _is_of(label: Tensor, classes: Sequence[int]) -> Tensor:
    return torch.isin(label, torch.tensor(classes))


def _named(classes: Sequence[int]) -> str:
    """``class 3``, or ``classes 3, 5``."""
    return f"class{'es' if len(classes) > 1 else ''} {', '.join(map(str, classes))}"
