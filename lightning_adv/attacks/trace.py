"""Running a model for an attack without leaving a trace on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from lightning_adv.asking import Classifier

__all__ = ["ModelMode", "leaves_no_trace", "uses_batch_statistics"]

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


def uses_batch_statistics(model: Classifier) -> bool:
    """Whether what a model says of an image depends, by BatchNorm, on the other images of the batch.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm2d(3))
        >>> uses_batch_statistics(model.train()), uses_batch_statistics(model.eval())
        (True, False)
    """
    if not isinstance(model, nn.Module):
        return False
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return any(module.training or module.running_mean is None for module in norms)
