"""Output channels of a network's convolutions, and the BatchNorm behind them, as the data flow."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.errors import InputError

__all__ = ["Channels", "Pruning", "Tried", "convolutions", "prune", "ran"]

Norm = nn.BatchNorm2d


@dataclass(frozen=True)
class Pruning:
    """Channels of a layer that were set to zero.

    Args:
        layer: its name; that of a convolution and of the BatchNorm behind it, if both are meant.
        channels: that it has.
        pruned: those of them that are zero, in the order in which they were taken.
        rows: names of the parameters whose rows of these numbers are zero.

    Example:
        >>> Pruning("conv", 8, (3, 1), ("conv.weight", "conv.bias")).pruned
        (3, 1)
    """

    layer: str
    channels: int
    pruned: tuple[int, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Tried:
    """A threshold of pruning, and what came of it.

    Args:
        threshold: in the words of the method.
        correct: held-out clean images that are still classified correctly.
        prunings: what it takes.

    Example:
        >>> Tried(3.0, 95, (Pruning("conv", 8, (3, 1), ("conv.weight",)),)).threshold
        3.0
    """

    threshold: float
    correct: int
    prunings: tuple[Pruning, ...]


@dataclass(frozen=True)
class Channels:
    """Channels that a convolution makes.

    Args:
        name: of the convolution.
        conv: itself.
        norm_name: of the BatchNorm that takes its output; empty if there is none.
        norm: itself.
    """

    name: str
    conv: nn.Conv2d
    norm_name: str = ""
    norm: Norm | None = None

    def pruning(self, channels: Iterable[int], conv: bool = True) -> Pruning:
        """These channels as zeros, in the BatchNorm too, which would turn a zero into a constant.

        Args:
            channels: their numbers.
            conv: whether the convolution loses its rows where a BatchNorm follows.
        """
        modules = {self.norm_name: self.norm} if self.norm is not None else {}
        if conv or not modules:
            modules[self.name] = self.conv
        rows = [f"{name}.{part}" for name, module in modules.items() for part, _ in module.named_parameters()]
        layer = f"{self.name} + {self.norm_name}" if self.norm is not None else self.name
        return Pruning(layer, self.conv.out_channels, tuple(channels), tuple(rows))


def convolutions(model: nn.Module, image: Tensor) -> list[Channels]:
    """Every convolution in the order in which they run, each with the affine BatchNorm that takes what it made.

    Args:
        model: in eval mode.
        image: [1, C, H, W] that is sent through it.

    Raises:
        InputError: none runs.
    """
    made: list[tuple[nn.Conv2d, Tensor]] = []
    norms: dict[nn.Conv2d, Norm] = {}

    def note(module: nn.Module, given: Tensor, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made.append((module, output))
        elif module.affine:
            norms.update({conv: module for conv, each in made if each is given})

    ran(model, image, (nn.Conv2d, Norm), note)
    if not made:
        raise InputError("channels of a convolution are to be pruned, and no nn.Conv2d runs in the model's forward")
    names = {module: name for name, module in model.named_modules()}
    found = dict.fromkeys(conv for conv, _ in made)
    return [Channels(names[each], each, names.get(norms.get(each), ""), norms.get(each)) for each in found]


def ran(
    model: nn.Module,
    image: Tensor,
    kind: type[nn.Module] | tuple[type[nn.Module], ...],
    note: Callable[[nn.Module, Tensor, Tensor], None],
) -> None:
    """One forward without gradients in which ``note`` gets every module of a kind with its input and output."""
    hooks = [
        each.register_forward_hook(lambda module, args, output: note(module, args[0], output))
        for each in model.modules()
        if isinstance(each, kind)
    ]
    try:
        with torch.no_grad():
            logits_of(model, image)
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def prune(model: nn.Module, prunings: Iterable[Pruning]) -> None:
    """Set the rows to zero."""
    parameters = dict(model.named_parameters())
    for each in prunings:
        for name in each.rows:
            parameters[name][list(each.pruned)] = 0
