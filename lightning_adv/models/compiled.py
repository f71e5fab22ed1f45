"""``torch.compile`` of a classifier, as attacks on a CPU want it."""

import inspect
import warnings
from collections.abc import Callable

import torch
from torch import nn

from lightning_adv.models.grey_conv import GreyConv2d
from lightning_adv.models.stand_ins import StridedConv2d, put_in

try:
    from functorch.compile import default_partition, min_cut_rematerialization_partition
    from torch._inductor.config import custom_partitioner_fn  # noqa: F401 (not every torch lets one choose)
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch._inductor.custom_graph_pass import CustomPartitionerFn

    _HAS_HOOK = True
except ImportError:  # another version of torch: its own choice is right, if slower
    CustomPartitionerFn, _HAS_HOOK = object, False

__all__ = ["compile_classifier"]

_LIMIT = {"recompile_limit": 64} if "recompile_limit" in inspect.signature(torch.compile).parameters else {}
"""torch gives up after eight variants, and the survivors of an attack, with and without a gradient, in training and
evaluation, are more: few images and many are compiled apart."""

DANGER = (
    "compiled code with several threads has ended a process on an Intel processor with AVX-512; its probable cause is "
    "avoided, which was tried on one of AMD's alone: if this run crashes, leave compile out or set OMP_NUM_THREADS=1"
)


def compile_classifier(model: nn.Module, mode: str | None = None) -> nn.Module:
    """Compile a module in place, so that the names in its state dict stay; returns it.

    Without a ``mode``, two things are done for CPUs beyond ``torch.compile``. What a backward pass needs is kept as the
    eager pass keeps it: torch's own choice saves memory by keeping masks of ReLUs, which its code for CPUs writes at
    some ten nanoseconds an entry. And convolutions of one channel, the first of every net for grey images, take their
    gradient to the image by a matrix product (:class:`~lightning_adv.models.grey_conv.GreyConv2d`).

    A backward pass leaves what its forward kept as it is: torch's donated buffers are off. Code that torch has in its
    cache is used by processors of the same vector width alone: torch would take it up on any, and code written for
    steps of 8 numbers that is then compiled for vectors of 16 writes past the end of its buffers.

    Narrow convolutions of one pixel with a stride, the shortcuts of small ResNets, look at their pixels in another way
    (:class:`~lightning_adv.models.stand_ins.StridedConv2d`): in the layout that compiled code gives images, oneDNN's
    gradient to their weights overwrites the heap. On an Intel processor with AVX-512, where that concerns up to 15
    channels, compiled code with several threads has ended a process. Until it is tried there, the first forward warns.

    Args:
        model: images to logits.
        mode: of ``torch.compile``, e.g. "reduce-overhead".

    Example:
        >>> model = compile_classifier(nn.Linear(4, 3))
        >>> sorted(model.state_dict())
        ['bias', 'weight']
    """
    put_in(model, *([GreyConv2d] if mode is None else []), StridedConv2d)
    if mode is not None:
        model.compile(backend=_Inductor(torch._inductor.list_mode_options(mode) | _width()), **_LIMIT)
        return model
    options = {"custom_partitioner_fn": _KeepOnCPU(), **_width()} if _HAS_HOOK else {}
    model.compile(backend=_Inductor(options), **_LIMIT)
    return model


class _Inductor:
    """torch's own compiler, with these options and without donated buffers, which a backward pass may overwrite."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[object]) -> Callable:
        if torch.get_num_threads() > 1 and torch.backends.cpu.get_cpu_capability() == "AVX512" and _on_cpu(inputs):
            warnings.warn(DANGER, stacklevel=2)
        with torch._functorch.config.patch(donated_buffer=False):
            return torch._inductor.compile(graph, inputs, options=self.options)


def _width() -> dict[str, int]:
    """The vector width that torch chooses, as an option, since options are in the key of torch's cache."""
    return {"cpp.simdlen": pick_vec_isa().bit_width() or 1} if _HAS_HOOK else {}


def _on_cpu(inputs: object) -> bool:
    leaves = torch.utils._pytree.tree_leaves(inputs)
    return all(each.device.type == "cpu" for each in leaves if isinstance(each, torch.Tensor))


class _KeepOnCPU(CustomPartitionerFn):
    """Keeps activations of graphs on a CPU; elsewhere torch's own choice. Pickled by torch, for its cache of code."""

    def __call__(self, gm: torch.fx.GraphModule, joint_inputs: object, **given: object) -> object:
        if not _on_cpu(joint_inputs):
            return min_cut_rematerialization_partition(gm, joint_inputs, **given)
        known = inspect.signature(default_partition).parameters
        return default_partition(gm, joint_inputs, **{name: value for name, value in given.items() if name in known})

    def uuid(self) -> str:
        """Names this choice in that cache."""
        return "lightning_adv: keep on CPU, none donated"
