"""``torch.compile`` of a classifier, as attacks on a CPU want it."""

import inspect

import torch
from torch import nn

__all__ = ["compile_classifier"]


def compile_classifier(model: nn.Module, mode: str | None = None) -> nn.Module:
    """Compile a module in place, so that the names in its state dict stay; returns it.

    Without a ``mode``, what a backward pass on a CPU needs is kept as the eager pass keeps it. torch's own choice saves
    memory by keeping masks of ReLUs, which its code for CPUs writes at some ten nanoseconds an entry: a gradient of a
    small convolutional net then takes longer than without compiling.

    Args:
        model: images to logits.
        mode: of ``torch.compile``, e.g. "reduce-overhead".

    Example:
        >>> model = compile_classifier(nn.Linear(4, 3))
        >>> sorted(model.state_dict())
        ['bias', 'weight']
    """
    options = None if mode is not None else _options()
    model.compile(mode=mode, options=options)
    return model


def _options() -> dict[str, object] | None:
    """Those of torch's compiler; None where its version has no such hook."""
    try:
        from functorch.compile import default_partition, min_cut_rematerialization_partition
        from torch._inductor import config
        from torch._inductor.custom_graph_pass import CustomPartitionerFn
    except ImportError:
        return None
    if not hasattr(config, "custom_partitioner_fn"):
        return None
    known = inspect.signature(default_partition).parameters

    class KeepOnCPU(CustomPartitionerFn):
        """Keeps activations of graphs on a CPU; elsewhere torch's own choice."""

        def __call__(self, gm: torch.fx.GraphModule, joint_inputs: object, **given: object) -> object:
            devices = {each.device.type for each in torch.utils._pytree.tree_leaves(joint_inputs) if _is_tensor(each)}
            if devices <= {"cpu"}:
                return default_partition(gm, joint_inputs, **{k: v for k, v in given.items() if k in known})
            return min_cut_rematerialization_partition(gm, joint_inputs, **given)

        def uuid(self) -> str:
            """Names this choice in torch's cache of compiled code."""
            return "lightning_adv: keep on CPU, 1"

    return {"custom_partitioner_fn": KeepOnCPU()}


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
