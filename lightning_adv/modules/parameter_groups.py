"""Which weights an optimiser treats alike: those it does not decay, and layers with a rate of their own."""

from typing import Literal

from torch import Tensor, nn

from lightning_adv.errors import InputError

__all__ = ["Decay", "parameter_groups", "scale_rates"]

Decay = Literal["all", "weights"]
NORMALISATIONS = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
SCALE = "lr_scale"


def parameter_groups(model: nn.Module, decay: Decay = "all", layer_decay: float | None = None) -> list[dict]:
    """The trainable weights of a model as an optimiser takes them; ``scale_rates`` follows once it is made.

    Args:
        model: a network.
        decay: "weights" spares normalisation, biases and what timm's networks name (``no_weight_decay``).
        layer_decay: rate of a layer relative to that of the next, 1 for the head; layers are timm's (Bao et al., BEiT,
            2022).

    Raises:
        InputError: a layer decay for a network whose layers timm does not know.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
        >>> [(len(group["params"]), group.get("weight_decay")) for group in parameter_groups(net, "weights")]
        [(2, None), (4, 0.0)]
    """
    spared = _spared(model) if decay == "weights" else set()
    scales = {} if layer_decay is None else _scales(model, layer_decay)
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            groups.setdefault((scales.get(id(weight), 1.0), id(weight) in spared), []).append(weight)
    return [
        {"params": weights, SCALE: scale} | ({"weight_decay": 0.0} if is_spared else {})
        for (scale, is_spared), weights in groups.items()
    ]


def scale_rates(groups: list[dict]) -> None:
    """Multiply the rates of an optimiser's groups by what :func:`parameter_groups` noted."""
    for group in groups:
        group["lr"] = group["lr"] * group.pop(SCALE)


def _spared(model: nn.Module) -> set[int]:
    """Vectors, all that a normalisation learns, and what a network says of itself."""
    spared = {id(weight) for weight in model.parameters() if weight.dim() < 2}
    for module in model.modules():
        if isinstance(module, NORMALISATIONS):
            spared |= {id(weight) for weight in module.parameters(recurse=False)}
        names = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
        spared |= {id(weight) for name, weight in module.named_parameters() if name in set(names)}
    return spared


def _scales(model: nn.Module, layer_decay: float) -> dict[int, float]:
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(model, layer_decay=layer_decay)
    if layer_decay < 1 and len({group[SCALE] for group in groups}) == 1:
        raise InputError(
            f"timm knows no layers of {type(model).__name__} (it has no group_matcher): leave layer_decay out"
        )
    return {id(weight): group[SCALE] for group in groups for weight in group["params"]}
