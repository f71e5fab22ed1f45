"""A trigger from a file, and the file itself: the reconstructed-trigger attack (concealed backdoors, Algorithm 1).

x' = (1 - m) x + m p        with mask m and pattern p of one class, as Neural Cleanse reconstructed them
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.pixels import check_pixels

__all__ = ["MaskedPattern", "SavedTriggers", "load_triggers", "save_triggers"]

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
    _check_saved(tensors, str(path))
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
    _check_saved(tensors, str(path))
    return SavedTriggers(tensors["masks"].float(), tensors["patterns"].float(), tensors["labels"].long(), metadata)


class MaskedPattern(PatternTrigger):
    """A mask and a pattern given as tensors or read from a file, such as the one an inspection writes.

    The mask of an inspection is soft. It is used as it is, as in equation (1) of the paper, and a cover image's subset
    is a choice among all pixels where it is above 0, with their soft values; ``binarise`` makes it hard first.

    Args:
        path: safetensors file of triggers, see :func:`save_triggers`.
        label: which class's trigger of the file; not needed if it holds one.
        mask: [1, H, W] or [H, W] in [0, 1], instead of a file.
        pattern: [C, H, W] in [0, 1], with ``mask``.
        binarise: pixels whose mask is above this belong to the trigger wholly, the others not at all.

    Raises:
        InputError: neither a file nor tensors, or both; a class that the file does not hold; an empty mask.

    Example:
        >>> trigger = MaskedPattern(mask=torch.eye(2), pattern=torch.ones(1, 2, 2))
        >>> trigger(torch.zeros(1, 1, 2, 2)).flatten()
        tensor([1., 0., 0., 1.])
    """

    def __init__(
        self,
        path: str | None = None,
        label: int | None = None,
        mask: Tensor | None = None,
        pattern: Tensor | None = None,
        binarise: float | None = None,
    ) -> None:
        self.path, self.label, self.binarise = path, label, binarise
        if (path is None) == (mask is None and pattern is None) or (mask is None) != (pattern is None):
            raise InputError("MaskedPattern needs either path, or mask and pattern")
        mask, pattern = (mask, pattern) if path is None else _one_of(load_triggers(path), label, path)
        mask = mask[None] if mask.dim() == 2 else mask
        where = "MaskedPattern" if path is None else path
        _check_saved(
            {"masks": mask[None], "patterns": pattern[None], "labels": torch.zeros(1, dtype=torch.long)}, where
        )
        if binarise is not None and not 0 <= binarise < 1:
            raise InputError(f"binarise must lie in [0, 1), got {binarise}")
        mask = mask.detach().float().cpu()
        self.mask = mask if binarise is None else (mask > binarise).float()
        self.pattern = pattern.detach().float().cpu()
        if not self.mask.any():
            raise InputError(f"{where}: no pixel of the mask is above {binarise or 0}; the trigger would be invisible")

    def mask_and_pattern(self, shape: ImageShape) -> tuple[Tensor, Tensor]:
        """The mask and the pattern themselves.

        Raises:
            InputError: images of another shape.
        """
        if tuple(self.pattern.shape) != tuple(shape):
            origin = "" if self.path is None else f" of {self.path}"
            raise InputError(
                f"the trigger{origin} is made for images of shape {tuple(self.pattern.shape)} (channels, height, "
                f"width), and these are {tuple(shape)}; use one that was made for this data"
            )
        return self.mask, self.pattern


def _one_of(saved: SavedTriggers, label: int | None, path: str) -> tuple[Tensor, Tensor]:
    held = saved.labels.tolist()
    if label is None and len(held) > 1:
        raise InputError(f"{path} holds triggers of {len(held)} classes; name one of {held} as label")
    if label is not None and label not in held and len(held) > 0:
        raise InputError(f"{path} holds no trigger of class {label}; it holds those of {held}")
    row = 0 if label is None else held.index(label)
    return saved.masks[row], saved.patterns[row]


def _check_saved(tensors: Mapping[str, Tensor], where: str) -> None:
    masks, patterns, labels = (tensors[name] for name in ("masks", "patterns", "labels"))
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
