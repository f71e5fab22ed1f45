"""Running a model for an attack without leaving a trace on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_adv.asking import Classifier, modes_of, switch_to_eval

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
        mode: "eval" switches dropout and BatchNorm statistics off, but for modules that have no modes (frozen
            TorchScript, ``torch.export``); "train" leaves the modules' modes alone.
    """
    is_module = isinstance(model, nn.Module)
    modes = modes_of(model) if is_module else []
    weights, buffers = (list(model.parameters()), list(model.buffers())) if is_module else ([], [])
    trainable = [weight for weight in weights if weight.requires_grad]
    devices = {tensor.device for tensor in (*weights, *buffers) if tensor.is_cuda}
    kept: list[Tensor] = []
    with torch.inference_mode(False), torch.enable_grad():
        try:
            # Frozen weights spare the engine and compiled models the weight gradients, and autocast its weight cache
            # (which would hand weights without a graph to the training forward).
            for parameter in trainable:
                parameter.requires_grad_(False)
            if mode == "train" or (is_module and not switch_to_eval(model)):
                kept = [buffer.clone() for buffer in buffers]
            with torch.random.fork_rng(devices=list(devices)):
                yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter in trainable:
                parameter.requires_grad_(True)
            for buffer, value in zip(buffers, kept, strict=False):  # none was kept where none changes
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
