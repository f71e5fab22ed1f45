"""The one forward: nothing in this package calls a classifier past it.

In float16 the gradient of a confident answer would be rounded to zero on its way to the image. What arrives at the
logits is therefore scaled to the same size for every image, by a power of two, and scaled back at the image:

    grad_x L  =  J^T (2^k grad_z L) / 2^k,    2^k |grad_z L| ~ AMPLITUDE
"""

import types
import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lightning_adv.asking.contract import checked_logits, looks_like_probabilities
from lightning_adv.asking.modes import modes_of
from lightning_adv.errors import InputError

__all__ = ["NO_GRADIENT", "Classifier", "answer_of", "in_its_precision", "logits_of", "remarks"]

Classifier = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] in [0, 1] to logits [N, K]: any ``nn.Module`` or plain function."""

AMPLITUDE = 2.0**5
"""Largest entry of a gradient that goes into a model of half precision: two thousandth of what float16 can hold."""

LEAST_EXPONENT = -100

PROBABILITIES = (
    "the model's answers look like probabilities (none is negative, each row adds up to 1): losses flatten there, and "
    "attacks find less than there is; return the logits, without the softmax at the end"
)

NO_GRADIENT = (
    "the model gives no gradient with respect to the image (it rounds, leaves torch or runs under no_grad): attack it "
    "with Square, which needs none, or wrap the step that has none in BPDA"
)
"""Said wherever a gradient is wanted and there is none."""

_LOOKED_AT: "WeakKeyDictionary[Classifier, bool]" = WeakKeyDictionary()
"""Models whose answers were looked at, and whether these are probabilities."""


def logits_of(model: Classifier, x: Tensor) -> Tensor:
    """Logits [N, K] of images [N, C, H, W] in float32, whatever precision the model computes in.

    The model works on a copy of ``x``, which it may change. Gradients with respect to ``x`` keep their size also
    through a model of half precision, as long as its weights are frozen (``leaves_no_trace``). The shape of the answer
    is checked every time; its values are looked at once in the life of a model.

    Args:
        model: any module or function.
        x: images, float.

    Raises:
        InputError: the model returns something else than a row of at least two logits an image; a gradient is wanted
            and there is none.

    Example:
        >>> x = torch.full((1, 1, 1, 2), 0.5)
        >>> logits_of(nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), x.sub_(1)), x.flatten()
        (tensor([[0., 0.]]), tensor([-0.5000, -0.5000]))
    """
    given = x.clone()
    scale = _Scale(given, together=_is_coupled(model)) if given.requires_grad and _may_be_half(model, x) else None
    try:
        answer = _asked(model, given)
    except RuntimeError as error:
        if "call numpy() on Tensor that requires grad" in str(error):
            raise InputError(NO_GRADIENT) from error
        raise
    logits = checked_logits(answer, len(x))
    if given.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
        raise InputError(NO_GRADIENT)
    if scale is not None and (isinstance(model, nn.Module) or _is_half(logits)):
        logits = scale.upwards(logits.float())
    _look_once(model, logits)
    return logits.float()


def answer_of(model: Classifier, x: Tensor) -> object:
    """What a model, or an oracle of labels, says of images [N, C, H, W]; unchecked. It works on a copy of ``x``."""
    return _asked(model, x.clone())


def in_its_precision(model: Classifier, x: Tensor) -> Tensor:
    """Images in the precision of the model's weights, unless autocast sees to that."""
    if not isinstance(model, nn.Module) or torch.is_autocast_enabled(x.device.type):
        return x
    weight = _first_weight(model)
    return x if weight is None else x.to(weight.dtype)


def _asked(model: Classifier, given: Tensor) -> object:
    return model(in_its_precision(model, given))


def _first_weight(model: nn.Module) -> Tensor | None:
    return next((p for p in model.parameters() if p.is_floating_point()), None)


def _may_be_half(model: Classifier, x: Tensor) -> bool:
    """Whether gradients may pass through float16; a function tells only by its answer."""
    if not isinstance(model, nn.Module):
        return True
    weight = _first_weight(model)
    if not _is_half(x if weight is None else weight):
        return False
    # Weights in training have their gradients scaled by the trainer, if at all: theirs would not be scaled back.
    return not any(parameter.requires_grad for parameter in model.parameters())


def _is_half(tensor: Tensor) -> bool:
    """Whether a weight or an answer is float16, or autocast makes it so."""
    device = tensor.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return autocast or tensor.dtype == torch.float16


def _is_coupled(model: Classifier) -> bool:
    """Whether an image's logits depend on the others of the batch, as BatchNorm in training mode makes them."""
    return isinstance(model, nn.Module) and any(training for _, training in modes_of(model))


class _Scale:
    """The power of two by which the gradient of every image is larger between logits and image.

    Args:
        given: the images that go into the model, before it has touched them.
        together: one factor for the whole batch, whose images depend on each other (BatchNorm in training mode).
    """

    def __init__(self, given: Tensor, together: bool) -> None:
        self.together = together
        self.factor: Tensor | None = None
        given.register_hook(self._down)

    def upwards(self, logits: Tensor) -> Tensor:
        """``logits`` whose gradient [N, K] is scaled before it goes into the model."""
        if logits.requires_grad:
            logits.register_hook(self._up)
        return logits

    def _up(self, grad: Tensor) -> Tensor:
        size = grad.abs().amax(dim=1)
        size = size.amax().expand_as(size) if self.together else size
        exponent = torch.where(size.isfinite() & (size > 0), torch.frexp(size).exponent, 0).clamp(min=LEAST_EXPONENT)
        self.factor = torch.ldexp(torch.full_like(size, AMPLITUDE), -exponent)
        return grad * self.factor[:, None]

    def _down(self, grad: Tensor) -> Tensor:
        return grad if self.factor is None else grad / self.factor.view(-1, *[1] * (grad.dim() - 1))


def _look_once(model: Classifier, logits: Tensor) -> None:
    """Say so, once, if a model gives probabilities: a look at the values waits for the device."""
    if torch.compiler.is_compiling() or not isinstance(model, (nn.Module, types.FunctionType)) or model in _LOOKED_AT:
        return
    if len(logits):
        _LOOKED_AT[model] = looks_like_probabilities(logits.detach())
        if _LOOKED_AT[model]:
            warnings.warn(PROBABILITIES, stacklevel=3)


def remarks(model: Classifier) -> list[str]:
    """What a reader of figures must know of the answers that a model has given so far."""
    return [PROBABILITIES] if isinstance(model, nn.Module) and _LOOKED_AT.get(model) else []
