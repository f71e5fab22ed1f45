"""What became of attacked images: four kinds of outcome (Billovits et al.), and what a photograph destroys.

Destruction rate (Kurakin et al., 2017): sum C(x) !C(x_adv) C(T(x_adv)) / sum C(x) !C(x_adv),  C = classified correctly
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_adv.asking import NO_CLASS, predicted

__all__ = [
    "Destruction",
    "Outcomes",
    "class_ranks",
    "destruction",
    "outcomes",
    "outcomes_of_predictions",
    "similar_classes",
    "top_k_errors",
]


LAST = torch.iinfo(torch.int64).max
"""Rank of a class that is not in sight however many are looked at."""


@dataclass(frozen=True)
class Outcomes:
    """Numbers of images by what an attack made of them; the kinds exclude each other.

    Args:
        samples: all images.
        robust: right before and after.
        true: wrong now, in favour of a class that was not in sight and is not related.
        refocused: wrong now, in favour of a class that was among the top ones, and the label still is.
        conatural: wrong now, in favour of a class related to the label.
        benign: wrong before, right now.
        wrong: wrong before and after.

    Example:
        >>> Outcomes(samples=4, robust=1, true=1, refocused=1, conatural=0, benign=1, wrong=0).adversarial
        2
    """

    samples: int
    robust: int
    true: int
    refocused: int
    conatural: int
    benign: int
    wrong: int

    @property
    def adversarial(self) -> int:
        """Images that the attack turned from right to wrong."""
        return self.true + self.refocused + self.conatural


def outcomes(
    clean: Tensor, adversarial: Tensor, labels: Tensor, similar: Tensor | None = None, top: int = 5
) -> Outcomes:
    """Count the outcomes of an attack.

    Args:
        clean, adversarial: logits [N, K] before and after.
        labels: [N].
        similar: [K, K] bool, whether a class (column) is related to a label (row), e.g. by a hierarchy or from
            :func:`similar_classes`; None: none is.
        top: ranks within which a class is in sight.

    Raises:
        ValueError: shapes that do not fit, or top below 1.

    Example:
        >>> clean, attacked = torch.tensor([[3.0, 2, 1, 0]]), torch.tensor([[2.0, 3, 1, 0]])
        >>> outcomes(clean, attacked, torch.tensor([0]), top=2).refocused
        1
    """
    count, classes = clean.shape
    if adversarial.shape != clean.shape or labels.shape != (count,) or top < 1:
        raise ValueError(
            f"outcomes need logits of one shape, as many labels and top >= 1, got {tuple(clean.shape)}, "
            f"{tuple(adversarial.shape)}, {tuple(labels.shape)} and {top}"
        )
    if similar is not None and similar.shape != (classes, classes):
        raise ValueError(f"similar must be [{classes}, {classes}], got {tuple(similar.shape)}")
    said = predicted(adversarial)
    in_sight = (class_ranks(clean, said) < top) & (class_ranks(adversarial, labels) < top)
    return outcomes_of_predictions(predicted(clean), said, labels, in_sight, similar)


def outcomes_of_predictions(
    clean: Tensor, adversarial: Tensor, labels: Tensor, in_sight: Tensor, similar: Tensor | None = None
) -> Outcomes:
    """Count the outcomes where logits are no longer at hand.

    Args:
        clean, adversarial: [N] classes that the model says before and after, ``NO_CLASS`` for NaN.
        labels: [N].
        in_sight: [N] bool, whether the class said after was among the top ones before, and the label still is after.
        similar: as of :func:`outcomes`.

    Example:
        >>> label, said = torch.tensor([0, 1]), torch.tensor([0, 2])
        >>> outcomes_of_predictions(label, said, label, in_sight=said == 2).refocused
        1
    """
    before, after = clean == labels, adversarial == labels
    turned = before & ~after
    related = torch.zeros_like(turned)
    if similar is not None:
        related = similar.to(labels.device)[labels, adversarial.clamp(min=0)] & (adversarial != NO_CLASS)
    numbers = {
        "robust": before & after,
        "conatural": turned & related,
        "refocused": turned & ~related & in_sight,
        "true": turned & ~related & ~in_sight,
        "benign": ~before & after,
        "wrong": ~before & ~after,
    }
    return Outcomes(samples=len(labels), **{name: int(each.sum()) for name, each in numbers.items()})


def similar_classes(logits: Tensor, labels: Tensor, share: float = 0.01) -> Tensor:
    """[K, K] bool: classes that clean images of a label (row) are confused with in at least ``share`` of the cases.

    Args:
        logits: [N, K] of clean images.
        labels: [N].
        share: in (0, 1]; both directions count.

    Example:
        >>> similar_classes(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 0, 1])).int()
        tensor([[0, 1, 0],
                [1, 0, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    classes = logits.shape[1]
    said = predicted(logits)
    places = (labels * classes + said)[said != NO_CLASS]
    pairs = torch.bincount(places, minlength=classes**2).view(classes, classes)
    confused = pairs >= share * pairs.sum(dim=1, keepdim=True).clamp_min(1)
    confused &= pairs > 0
    return (confused | confused.T) & ~torch.eye(classes, dtype=torch.bool, device=labels.device)


@dataclass(frozen=True)
class Destruction:
    """Adversarial images that a transformation made harmless.

    Args:
        fooled: images that were right clean and wrong under attack.
        destroyed: of them right again after the transformation.

    Example:
        >>> Destruction(fooled=8, destroyed=2).rate
        0.25
    """

    fooled: int
    destroyed: int

    @property
    def rate(self) -> float | None:
        """The destruction rate; None where nothing was fooled."""
        return self.destroyed / self.fooled if self.fooled else None


def destruction(clean: Tensor, adversarial: Tensor, transformed: Tensor, labels: Tensor, top: int = 1) -> Destruction:
    """Count by the module's equation.

    Args:
        clean, adversarial, transformed: logits [N, K] of the images, of the attacked ones and of these transformed.
        labels: [N].
        top: correct means that the label is among so many classes.

    Example:
        >>> right, wrong = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
        >>> destruction(right, wrong, right, torch.tensor([0]))
        Destruction(fooled=1, destroyed=1)
    """
    right, attacked, again = (class_ranks(logits, labels) < top for logits in (clean, adversarial, transformed))
    fooled = right & ~attacked
    return Destruction(int(fooled.sum()), int((fooled & again).sum()))


def top_k_errors(logits: Tensor, labels: Tensor, k: int = 5) -> int:
    """Images whose label is not among the k classes of highest logit.

    Example:
        >>> top_k_errors(torch.tensor([[3.0, 2, 1], [3.0, 2, 1]]), torch.tensor([1, 2]), k=2)
        1
    """
    return int((class_ranks(logits, labels) >= k).sum())


def class_ranks(logits: Tensor, classes: Tensor) -> Tensor:
    """[N] number of classes of higher logit [N, K] than ``classes`` [N]; of ties the lower class number is first.

    ``NO_CLASS`` is behind all others, as is every class where a logit is NaN.

    Example:
        >>> class_ranks(torch.tensor([[3.0, 2, 1]]), torch.tensor([1]))
        tensor([1])
    """
    own = logits.gather(1, classes.clamp(min=0)[:, None])
    number = torch.arange(logits.shape[1], device=logits.device)
    rank = ((logits > own) | ((logits == own) & (number < classes[:, None]))).sum(dim=1)
    return torch.where((predicted(logits) == NO_CLASS) | (classes == NO_CLASS), LAST, rank)
