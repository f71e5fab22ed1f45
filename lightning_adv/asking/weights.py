"""A classifier at other weights than its own: those stay as they are, gradients reach the ones in their place."""

from functools import partial

import torch
from torch import Tensor, nn

from lightning_adv.asking.forward import Classifier, in_its_precision

__all__ = ["at_weights", "without_records"]


def at_weights(model: nn.Module, tensors: dict[str, Tensor]) -> Classifier:
    """The model as a function of images, with these tensors in place of its own of the same names.

    Args:
        model: stays as it is.
        tensors: parameters and buffers by name, as many as are to be replaced.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
        >>> at_weights(model, {"1.weight": torch.zeros(2, 1), "1.bias": torch.tensor([1.0, 2.0])})(torch.rand(1, 1))
        tensor([[1., 2.]])
    """
    return partial(_called, model, tensors)


def without_records(model: Classifier) -> Classifier:
    """The model, or what :func:`at_weights` made of one, with copies of its buffers: BatchNorm records nothing.

    Example:
        >>> model = nn.BatchNorm2d(1)
        >>> answer = without_records(model)(torch.rand(2, 1, 2, 2))
        >>> int(model.num_batches_tracked)
        0
    """
    inner, tensors = model.args if isinstance(model, partial) and model.func is _called else (model, {})
    if not isinstance(inner, nn.Module):
        return model
    return at_weights(inner, {name: buffer.clone() for name, buffer in inner.named_buffers()} | tensors)


def _called(model: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.func.functional_call(model, tensors, in_its_precision(model, x))
