"""Asking a model in bfloat16 between its first layer and its last.

Images and logits keep float32: a pixel of bfloat16 has steps of 1/256 near white, as large as a budget's, and logits
that are rounded so tie where a search wants to know which is larger.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from lightning_adv.asking.forward import Classifier, logits_of

__all__ = ["ends_of", "logits_in_bf16"]


def ends_of(model: Classifier, x: Tensor) -> tuple[nn.Module, ...]:
    """The first and the last convolution or linear layer that an image passes; none of a function. One forward.

    Args:
        model: images to logits.
        x: [N, C, H, W] images to find out with.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
        >>> [list(model).index(end) for end in ends_of(model, torch.rand(1, 1, 2, 2))]
        [1, 4]
    """
    if not isinstance(model, nn.Module):
        return ()
    passed: list[nn.Module] = []
    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.modules.conv._ConvNd)]
    with ExitStack() as noted, torch.no_grad():
        for layer in layers:
            noted.enter_context(_removed(layer.register_forward_pre_hook(lambda layer, _: passed.append(layer))))
        logits_of(model, x)
    return tuple(dict.fromkeys((passed[0], passed[-1]))) if passed else ()


def logits_in_bf16(model: Classifier, x: Tensor, ends: tuple[nn.Module, ...]) -> Tensor:
    """Logits [N, K] in float32, as ``logits_of``; everything but ``ends`` computes in bfloat16, channels last."""
    device = x.device.type
    x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    with ExitStack() as lowered:
        for end in ends:
            lowered.enter_context(_as_it_is(end, device))
        lowered.enter_context(torch.autocast(device, torch.bfloat16))
        return logits_of(model, x)


@contextmanager
def _as_it_is(layer: nn.Module, device: str) -> Iterator[None]:
    """A layer that autocast does not reach: it computes in the precision of its weights."""

    def enter(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        torch.set_autocast_enabled(device, False)
        return tuple(each.to(layer.weight.dtype) for each in given)

    def leave(*_: object) -> None:
        torch.set_autocast_enabled(device, True)

    with (
        _removed(layer.register_forward_pre_hook(enter)),
        _removed(layer.register_forward_hook(leave, always_call=True)),
    ):
        yield


@contextmanager
def _removed(hook: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()
