"""How many images a model is asked about at once, where there are more of them to work on."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from lightning_adv.asking.forward import Classifier, logits_of

__all__ = ["asked_at_once", "logits_in_parts", "parts_of"]

_most: list[int] = []


@contextmanager
def asked_at_once(images: int) -> Iterator[None]:
    """Inside, attacks ask a model about so many images at once, however many they work on.

    An attack on several batches then takes the memory of one, and what is left of all of them still fills one.

    Args:
        images: at most, of a forward and its backward.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> model, sizes = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), []
        >>> _ = model.register_forward_hook(lambda module, given, logits: sizes.append(len(logits)))
        >>> with asked_at_once(4):
        ...     _ = FGSM(eps=0.1)(model, torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.long))
        >>> sizes
        [3, 3]
    """
    _most.append(images)
    try:
        yield
    finally:
        _most.pop()


def parts_of(count: int) -> list[slice]:
    """Parts of so many images that a model is asked about one after the other, all of the same size or nearly so.

    Example:
        >>> with asked_at_once(4):
        ...     parts_of(4), parts_of(9)
        ([slice(0, 4, None)], [slice(0, 3, None), slice(3, 6, None), slice(6, 9, None)])
    """
    if not _most or count == 0:
        return [slice(0, count)]
    number = -(-count // _most[-1])
    bounds = [count * i // number for i in range(number + 1)]
    return [slice(*each) for each in pairwise(bounds)]


def logits_in_parts(model: Classifier, x: Tensor) -> Tensor:
    """Logits [N, K] of images [N, C, H, W], without a gradient.

    Raises:
        InputError: the model's forward gives something else.
    """
    with torch.no_grad():
        return torch.cat([logits_of(model, x[part]) for part in parts_of(len(x))])
