"""A trigger from a file, or of tensors: the reconstructed-trigger attack (concealed backdoors, Algorithm 1).

x' = (1 - m) x + m p        with mask m and pattern p of one class, as Neural Cleanse reconstructed them
"""

import torch
from torch import Tensor

from lightning_adv.backdoors.trigger import ImageShape, PatternTrigger
from lightning_adv.backdoors.trigger_file import SavedTriggers, check_triggers, load_triggers
from lightning_adv.errors import InputError

__all__ = ["MaskedPattern"]


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
            raise InputError(f"{type(self).__name__} needs either path, or mask and pattern")
        mask, pattern = (mask, pattern) if path is None else _one_of(load_triggers(path), label, path)
        mask = mask[None] if mask.dim() == 2 else mask
        where = type(self).__name__ if path is None else path
        check_triggers(
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
