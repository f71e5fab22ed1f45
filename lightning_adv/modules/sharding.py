"""Networks whose weights, gradients and optimiser states are spread over processes (FSDP2; Zhao et al., 2023)."""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh

__all__ = ["shard", "whole"]


def shard(network: nn.Module, mesh: DeviceMesh | None) -> None:
    """Spread a network over the data-parallel processes, block by block; every rank calls it.

    A block is whatever stands in a ``ModuleList``, as the levels of a UNet and the layers of a transformer do. Each is
    gathered when it is run and given back after it.

    Args:
        network: run by ``forward``, with the same weights on all ranks; left alone if it is spread already.
        mesh: ``LightningModule.device_mesh``; None, as under every strategy but ``ModelParallelStrategy``, for not at
            all.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if mesh is None or isinstance(network, FSDPModule):
        return
    how = {"mesh": mesh["data_parallel"], "reshard_after_forward": True}
    for block in _blocks(network):
        fully_shard(block, **how)
    fully_shard(network, **how)


def whole(network: nn.Module) -> nn.Module:
    """A copy of a network of diffusers or transformers that is spread, or whose parts are: on the CPU of rank zero.

    Call it on every rank: the weights are gathered. A network that is not spread is returned as it is.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    if not any(isinstance(weight, DTensor) for weight in network.parameters()):
        return network
    weights = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    kind = next(each for each in type(network).__mro__ if not issubclass(each, FSDPModule))
    # diffusers builds its networks by from_config, transformers by their constructors
    copy = kind.from_config(network.config) if hasattr(kind, "from_config") else kind(network.config)
    if weights:  # none on the other ranks
        copy.load_state_dict(weights)
    return copy.eval()


def _blocks(network: nn.Module) -> list[nn.Module]:
    """Outermost entries of lists: what lies inside one is gathered with it."""
    if isinstance(network, nn.ModuleList):
        # diffusers writes None for an attention that a level does not have
        return [block for block in network if block is not None and any(True for _ in block.parameters())]
    return [block for child in network.children() for block in _blocks(child)]
