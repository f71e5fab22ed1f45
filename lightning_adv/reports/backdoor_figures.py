"""The pictures of a backdoor's section."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from lightning_adv.reports.examples import Examples
from lightning_adv.reports.figures import STYLE, adversarial_grid, class_bars

__all__ = ["source_class_bars", "trigger_panels", "triggered_grid"]


def triggered_grid(examples: Examples, class_names: Sequence[str]) -> Figure:
    """Clean image, image with the trigger and their difference, one column a sample."""
    return adversarial_grid(
        examples.clean,
        examples.adversarial,
        examples.labels,
        examples.clean_predictions,
        examples.adversarial_predictions,
        class_names=class_names,
        clean_confidences=examples.clean_confidences,
        adversarial_confidences=examples.adversarial_confidences,
        after_name="triggered",
    )


def trigger_panels(shown: Tensor) -> Figure:
    """What a trigger makes of a black, a grey and a white image [3, C, H, W] with 1 or 3 channels."""
    pixels = shown.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 2.3))
        panels = figure.subplots(1, 3)
        for axes, image, name in zip(panels, pixels, ("on black", "on grey", "on white"), strict=True):
            axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, "gray", vmin=0, vmax=1)
            axes.images[0].set_interpolation("nearest")
            axes.set_title(name)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(True)
    return figure


def source_class_bars(class_names: Sequence[str], shares: Mapping[str, Sequence[float | None]]) -> Figure:
    """Shares by class of the image: bars for up to 20 classes, a heat map for more."""
    figure = class_bars(class_names, shares)
    for axes in figure.axes:
        if axes.get_ylabel() == "accuracy":
            axes.set(ylabel="share of images", xlabel="class of the image")
    return figure
