"""Running a model for an attack without leaving a trace on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError

__all__ = ["Classifier", "ModelMode", "forward_float32", "leaves_no_trace"]

Classifier = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] in [0, 1] to logits [N, K]: any ``nn.Module`` or plain function."""

ModelMode = Literal["eval", "train"]


@contextmanager
def leaves_no_trace(model: Classifier, mode: ModelMode = "eval") -> Iterator[None]:
    """Gradients with respect to the input are possible inside; afterwards the model is bit for bit as before.

    Kept and restored, also after an exception: train / eval mode of every module, ``requires_grad`` of every
    parameter, buffers that a forward in training mode changes, and the global RNG that dropout and randomised models
    draw from.
    Works inside ``torch.no_grad`` and ``torch.inference_mode``; tensors made outside must be cloned inside before use.

    Args:
        model: a module, or a function (then nothing is kept).
        mode: "eval" switches dropout and BatchNorm statistics off; "train" leaves the modules' modes alone.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    trainable = [p for p in model.parameters() if p.requires_grad] if modules else []
    buffers = list(model.buffers()) if modules and mode == "train" else []
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda} if modules else ()
    with torch.inference_mode(False), torch.enable_grad():
        kept = [buffer.clone() for buffer in buffers]
        try:
            # Frozen weights spare the engine and compiled models the weight gradients, and autocast its weight cache
            # (which would hand weights without a graph to the training forward).
            for parameter in trainable:
                parameter.requires_grad_(False)
            if mode == "eval" and modules:
                model.eval()
            with torch.random.fork_rng(devices=list(devices)):
                yield
        finally:
            for module, training in zip(modules, modes, strict=True):
                module.training = training
            for parameter in trainable:
                parameter.requires_grad_(True)
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)


def forward_float32(model: Classifier, x: Tensor) -> Tensor:
    """Logits of float32 images in float32, whatever precision the model computes in.

    Raises:
        InputError: the model returns something else than a tensor.
    """
    if isinstance(model, nn.Module) and not torch.is_autocast_enabled(x.device.type):
        weight = next((p for p in model.parameters() if p.is_floating_point()), x)
        x = x.to(weight.dtype)
    logits = model(x)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the model's forward must map images [N, C, H, W] to logits [N, K], got a {type(logits).__name__}; "
            "return the logits alone, or wrap the model"
        )
    return logits.float()
