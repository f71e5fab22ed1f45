"""Activations of named layers, by forward hooks on any module."""

import difflib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS, check_labels, logits_of, predicted
from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import LabelledImages
from lightning_adv.errors import InputError

__all__ = ["activations", "as_module", "by_class", "last_hidden", "of_predicted", "weight_layers"]


def activations(model: nn.Module, x: Tensor, layers: Sequence[str | None]) -> tuple[list[Tensor], Tensor]:
    """Flattened float32 activations [N, D] of each layer, and the logits [N, K], from one forward.

    Args:
        model: images to logits.
        x: images [N, C, H, W].
        layers: names as in ``model.named_modules()``: the layer's output; None: the last hidden layer, which is the
            input of the last linear one.

    Raises:
        InputError: a layer that does not exist (lists the names), or that the forward does not pass exactly once.
    """
    modules = dict(model.named_modules())
    unknown = [name for name in layers if name is not None and (name not in modules or not name)]
    if unknown:
        names = [name for name in modules if name]
        close = difflib.get_close_matches(str(unknown[0]), names, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"the model has no layer {unknown[0]!r}{meant} Its layers are: {', '.join(names)}")
    found: dict[int, list[Tensor]] = {position: [] for position in range(len(layers))}
    hooks = []
    try:
        for position, name in enumerate(layers):
            module = modules[last_hidden(model) if name is None else name]
            keep = found[position]
            if name is None:
                hooks.append(module.register_forward_pre_hook(lambda _, given, keep=keep: keep.append(given[0])))
            else:
                hooks.append(module.register_forward_hook(lambda _, given, made, keep=keep: keep.append(made)))
        # A compiled module would not see hooks that came after it was compiled.
        with torch.compiler.set_stance("force_eager"):
            logits = logits_of(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    for position, name in enumerate(layers):
        times = len(found[position])
        if times != 1 or not isinstance(found[position][0], Tensor) or len(found[position][0]) != len(x):
            raise InputError(
                f"layer {name or 'before the last linear one'!r} must give one tensor with a row an image in a "
                f"forward, and gave {times}; choose another layer"
            )
    return [found[position][0].flatten(1).float() for position in range(len(layers))], logits


def by_class(model: nn.Module, batches: Iterable[LabelledImages], layer: str | None) -> tuple[Tensor, Tensor, int]:
    """Features [M, D] of clean images, sorted by class, their labels [M], and the number of classes.

    Images that break the model tell nothing of normal ones and are left out.

    Raises:
        InputError: a layer that does not exist, a label that no class has.
    """
    features, labels = [], []
    for batch in batches:
        (feature,), logits = activations(model, batch.image, [layer])
        check_labels(batch.label, logits.shape[1])
        named = predicted(logits) != NO_CLASS
        features.append(feature[named])
        labels.append(batch.label[named])
    label = torch.cat(labels)
    order = label.argsort(stable=True)
    return torch.cat(features)[order], label[order], logits.shape[1]


def last_hidden(model: nn.Module) -> str:
    """Name of the last linear layer, whose input is the last hidden layer.

    Raises:
        InputError: there is none.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError("the model has no linear layer, so its last hidden layer is unknown: name one in layer=...")
    return linear[-1]


def weight_layers(model: nn.Module) -> list[str]:
    """Names of the convolutions and linear layers, the one that makes the logits included."""
    return [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))]


def of_predicted(values: Tensor, logits: Tensor) -> Tensor:
    """[N, 1] entries of ``values`` [N, K] of the class that logits [N, K] name, NaN where they name none."""
    said = predicted(logits)[:, None]
    return torch.where(said == NO_CLASS, torch.nan, values.gather(1, said.clamp(min=0)))


def as_module(model: LabelOracle, wanted_by: str) -> nn.Module:
    """The model, which must be a torch module.

    Raises:
        InputError: it is a plain function.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{wanted_by} looks into the model and needs a torch module, got a {type(model).__name__}; "
            "for a label oracle use LabelChangeRate"
        )
    return model
