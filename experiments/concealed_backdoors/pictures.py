"""The triggers that the concealed-backdoor experiment hides, beside those that Neural Cleanse finds."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.concealed_backdoors.setup import Cell, cells_of, trigger_of
from lightning_adv.backdoors import load_triggers
from lightning_adv.backdoors.trigger import ImageShape
from lightning_adv.inspectors import find_outliers
from lightning_adv.results.figures import STYLE, WRONG, in_house_style

__all__ = ["found_triggers"]

OTHERS = 4
"""Classes shown beside the target."""


def found_triggers(run: Path, data: str, target: int, repeat: int = 0) -> Figure | None:
    """A row for each model: what it hides, what was found for the target, and for a few other classes.

    Args:
        run: folder of the experiment.
        data: key of the settings.
        target: class of the triggers.
        repeat: which one is shown.

    Returns:
        None if no model of this repeat was measured, or if the triggers of one are elsewhere.
    """
    files = {cell: run / data / cell.name / f"{repeat}.safetensors" for cell in cells_of(data)}
    clean = run / data / f"clean_{repeat}.safetensors"
    files[Cell(data, "clean")] = clean
    there = {cell: path for cell, path in files.items() if path.is_file()}
    measured = sum((run / data / cell.name / f"{repeat}.json").is_file() for cell in files)
    if not there or len(there) < measured:
        return None
    return _drawn(there, clean, target, repeat)


@in_house_style
def _drawn(there: dict[Cell, Path], clean: Path, target: int, repeat: int) -> Figure:
    figure = Figure(figsize=(1.5 * (2 + OTHERS), 1.75 * len(there)))
    axes = figure.subplots(len(there), 2 + OTHERS, squeeze=False)
    for row, (cell, path) in zip(axes, there.items(), strict=True):
        _row(row, cell, path, clean, target, repeat)
    return figure


def _row(axes: list[Axes], cell: Cell, path: Path, clean: Path, target: int, repeat: int) -> None:
    for panel in axes:
        panel.set_axis_off()
    saved = load_triggers(path)
    shape: ImageShape = tuple(saved.patterns.shape[1:])
    hidden = trigger_of(cell, repeat, clean, target)
    name = cell.name.replace("_", "\n", 1).replace("_", " ").replace("rate", "rate ").replace("z", "z ")
    axes[0].set_title(name, fontsize=8)
    if hidden is not None:
        mask, pattern = hidden.mask_and_pattern(shape)
        _show(axes[0], mask, pattern)
        axes[0].set_title(f"{name}, {float(mask.sum()):.0f} px", fontsize=8)
    norms = saved.masks.flatten(1).sum(dim=1).tolist()
    index = find_outliers(norms).index
    labels = saved.labels.tolist()
    for panel, label in zip(axes[1:], [target, *(each for each in labels if each != target)], strict=False):
        at = labels.index(label)
        _show(panel, saved.masks[at], saved.patterns[at])
        is_target = label == target
        panel.set_title(
            f"{'target' if is_target else 'class'} {label}\n{norms[at]:.0f} px, index {index[at]:.1f}",
            fontsize=8,
            color=WRONG if is_target else STYLE["text.color"],
        )


def _show(panel: Axes, mask: Tensor, pattern: Tensor) -> None:
    """The pattern seen through the mask on grey, so that black pixels show too."""
    seen = (mask * pattern + (1 - mask) * 0.5).movedim(0, 2).squeeze(2)
    panel.imshow(seen.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
