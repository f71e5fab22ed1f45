"""Triggers as a file: a mask and a pattern for each of K classes, in safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.pixels import check_pixels

__all__ = ["SavedTriggers", "check_triggers", "load_triggers", "save_triggers"]

_TENSORS = ("labels", "masks", "patterns")


@dataclass(frozen=True)
class SavedTriggers:
    """Triggers of K classes, float32 in [0, 1].

    Args:
        masks: [K, 1, H, W].
        patterns: [K, C, H, W].
        labels: int64 [K], the class that each of them leads to.
        metadata: what the writer noted about them.

    Example:
        >>> SavedTriggers(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8), torch.tensor([0, 7])).labels.tolist()
        [0, 7]
    """

    masks: Tensor
    patterns: Tensor
    labels: Tensor
    metadata: dict[str, str] = field(default_factory=dict)


def save_triggers(
    path: str | Path, masks: Tensor, patterns: Tensor, labels: Tensor, metadata: Mapping[str, str] | None = None
) -> None:
    """Write triggers to a safetensors file (``triggers.safetensors`` of an inspection).

    Args:
        path: of the file; its folder is made.
        masks: [K, 1, H, W] in [0, 1].
        patterns: [K, C, H, W] in [0, 1].
        labels: integers [K], one trigger a class.
        metadata: notes, all strings.

    Raises:
        InputError: shapes that do not belong together, values outside [0, 1], a class that stands there twice.
    """
    tensors = {"masks": masks, "patterns": patterns, "labels": labels}
    check_triggers(tensors, str(path))
    types = {"masks": torch.float32, "patterns": torch.float32, "labels": torch.int64}
    # A copy each: safetensors refuses tensors that share memory.
    stored = {name: each.detach().to("cpu", types[name], copy=True).contiguous() for name, each in tensors.items()}
    replace_atomically(path, save(stored, metadata=dict(metadata or {})))


def load_triggers(path: str | Path) -> SavedTriggers:
    """Read what :func:`save_triggers` wrote.

    Raises:
        InputError: no such file, a file of another kind or content.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no file {path}; an inspection writes triggers.safetensors into its run folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); save it again") from error
    if sorted(tensors) != sorted(_TENSORS):
        raise InputError(f"{path} holds {', '.join(sorted(tensors))}; a file of triggers holds {', '.join(_TENSORS)}")
    check_triggers(tensors, str(path))
    return SavedTriggers(tensors["masks"].float(), tensors["patterns"].float(), tensors["labels"].long(), metadata)


def check_triggers(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse masks [K, 1, H, W], patterns [K, C, H, W] and labels [K] that are no triggers of K classes.

    Args:
        tensors: ``masks``, ``patterns`` and ``labels``.
        where: the message begins with.

    Raises:
        InputError: shapes that do not belong together, values outside [0, 1], a class that stands there twice.
    """
    labels, masks, patterns = (tensors[name] for name in _TENSORS)
    shapes = f"masks {tuple(masks.shape)}, patterns {tuple(patterns.shape)}, labels {tuple(labels.shape)}"
    fits = (
        masks.dim() == patterns.dim() == 4
        and masks.shape[1] == 1
        and masks.shape[2:] == patterns.shape[2:]
        and len(masks) == len(patterns) == labels.numel() > 0
        and labels.dim() == 1
    )
    if not fits:
        raise InputError(f"{where}: a trigger of each of K classes is [K, 1, H, W], [K, C, H, W] and [K], got {shapes}")
    if labels.is_floating_point() or len(labels.unique()) < len(labels):
        raise InputError(f"{where}: labels must be integers, each class once, got {labels.tolist()}")
    for name in ("masks", "patterns"):
        check_pixels(tensors[name].float(), "a mask and a pattern are images", f"{where}: {name}")
