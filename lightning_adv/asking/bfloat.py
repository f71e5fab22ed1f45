"""Asking a model in bfloat16 between its first layer and its last.

Images and logits keep float32: a pixel of bfloat16 has steps of 1/256 near white, as large as a budget's, and logits
that are rounded so tie where a search wants to know which is larger.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from lightning_adv.asking.forward import Classifier, logits_of
from lightning_adv.errors import InputError

__all__ = ["InBfloat16"]


class InBfloat16:
    """A model that computes in bfloat16 between its first and its last convolution or linear layer.

    Calling it gives logits [N, K] in float32, with gradients as ``logits_of`` has them. Images go in channels last, for
    which processors have the faster convolutions, unless the model takes them in the usual order alone.

    Args:
        model: images to logits.
        x: [N, C, H, W] images to find out with, by two or three forwards.

    Raises:
        InputError: the model cannot compute in bfloat16.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
        >>> [list(model).index(end) for end in InBfloat16(model, torch.rand(1, 1, 2, 2)).ends]
        [1, 4]
    """

    def __init__(self, model: Classifier, x: Tensor) -> None:
        self.layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
        with torch.compiler.set_stance("force_eager"), torch.no_grad():  # what one image shows is not worth compiling
            self.model, self.ends = model, _ends(model, x)
            try:
                self(x)
            except (RuntimeError, TypeError):  # a view of channels that do not lie together
                self.layout = torch.contiguous_format
                try:
                    self(x)
                except (RuntimeError, TypeError) as error:
                    raise InputError(
                        f"the model cannot compute in bfloat16 ({str(error).splitlines()[0]}): leave precision: bf16, "
                        "bf16: true or SearchLow out"
                    ) from error

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W]."""
        with _as_they_are(self.ends), torch.autocast(x.device.type, torch.bfloat16):
            return logits_of(self.model, x.contiguous(memory_format=self.layout))


def _ends(model: Classifier, x: Tensor) -> tuple[nn.Module, ...]:
    """The first and the last layer that an image passes; none of a function."""
    if not isinstance(model, nn.Module):
        return ()
    passed: list[nn.Module] = []
    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.modules.conv._ConvNd)]
    with ExitStack() as noted, torch.no_grad():
        for layer in layers:
            noted.enter_context(_removed(layer.register_forward_pre_hook(lambda layer, _: passed.append(layer))))
        logits_of(model, x)
    return tuple(dict.fromkeys((passed[0], passed[-1]))) if passed else ()


@contextmanager
def _as_they_are(layers: tuple[nn.Module, ...]) -> Iterator[None]:
    """Inside, autocast does not reach the layers: they compute in the precision of their weights.

    Their class is another one meanwhile. Compiled code knows classes again, where it would be compiled anew for hooks.
    """
    classes = [type(layer) for layer in layers]
    try:
        for layer, own in zip(layers, classes, strict=True):
            layer.__class__ = _unreached(own)
        yield
    finally:
        for layer, own in zip(layers, classes, strict=True):
            layer.__class__ = own


@cache
def _unreached(own: type[nn.Module]) -> type[nn.Module]:
    """The class of layers without autocast."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return own.forward(self, x.to(self.weight.dtype))

    return type(own.__name__, (own,), {"forward": forward, "__module__": own.__module__})


@contextmanager
def _removed(hook: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()
