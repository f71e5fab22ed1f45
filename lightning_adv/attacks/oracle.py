"""What a black-box attacker sees of a classifier: labels, or scores of the classes."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_adv.asking import answer_of, predicted
from lightning_adv.attacks.randomised import answers_differ, averaged, drawn_logits
from lightning_adv.errors import InputError

__all__ = ["LabelOracle", "predicted_labels", "settled_labels"]

LabelOracle = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] in [0, 1] to labels [N] (integers) or logits [N, K]: any module, any function."""


def predicted_labels(model: LabelOracle, x: Tensor) -> Tensor:
    """[N] int64 labels that a classifier, or an oracle that says only labels, gives to images; -1 for NaN logits.

    Raises:
        InputError: the answer is neither N integers nor N rows of at least two logits.
    """
    return _labels(answer_of(model, x), x)


def settled_labels(model: LabelOracle, x: Tensor) -> Tensor:
    """The same; of a model whose answer to the first image differs when asked again, the class of its mean prediction.

    Raises:
        InputError: the answer is neither N integers nor N rows of at least two logits.
    """
    answer = answer_of(model, x)
    labels = _labels(answer, x)
    if answer.dim() == 1 or not len(x) or not answers_differ(answer[:1], answer_of(model, x[:1])):
        return labels
    return predicted(averaged(drawn_logits(model, x)))


def _labels(answer: Tensor, x: Tensor) -> Tensor:
    if isinstance(answer, Tensor) and answer.dim() == 2 and len(answer) == len(x) and answer.shape[1] > 1:
        return predicted(answer)
    if isinstance(answer, Tensor) and answer.shape == (len(x),) and not answer.is_floating_point():
        return answer.to(x.device, torch.int64)
    got = f"{answer.dtype} of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
    raise InputError(
        f"the model must map {len(x)} images to as many integer labels [N], or to logits [N, K], got {got}; "
        "wrap it, e.g. lambda x: torch.from_numpy(victim.predict(x.flatten(1).numpy()))"
    )
