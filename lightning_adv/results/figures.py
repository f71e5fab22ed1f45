"""The pictures of a report, as matplotlib figures in one house style; nothing here touches pyplot's global state."""

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from lightning_adv.pixels import visible
from lightning_adv.results.examples import magnification
from lightning_adv.results.shares import percent, wilson_interval

__all__ = [
    "accuracy_curve",
    "adversarial_grid",
    "class_shares",
    "confidence_histogram",
    "history_curves",
    "in_house_style",
    "legend",
    "png",
    "svg",
]

# Okabe and Ito's colours: distinct under every common colour blindness. Series differ in marker as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RIGHT, WRONG, QUIET, INK, PALE, LINE = "#0072B2", "#D55E00", "#5F6B7A", "#2B3440", "#C9D3DC", "#E4E8EC"
EDGE = "#9AA5B1"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": EDGE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": EDGE,
    "ytick.color": EDGE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.color": INK,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}
WIDTH, HEIGHT = 4.9, 3.1  # inches of a chart, which can be read on a telephone; 100 CSS pixels each on the page
SVG_DPI = 72  # of the user units that matplotlib measures such a file in
GRID_COLUMNS = 8
NAMED_CLASSES = 40  # of more classes a chart shows how their shares are spread, not which is which

Parameters = ParamSpec("Parameters")


def in_house_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Draw in the house style, whatever the user's own settings are."""

    @wraps(draw)
    def styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as the bytes of a PNG file, two pixels to a CSS pixel at the default resolution."""
    buffer = io.BytesIO()
    with _laid_out(figure, FigureCanvasAgg, dpi) as canvas:
        canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> bytes:
    """The figure as the bytes of an SVG file without ground, whose texts are text; ``name`` marks its identifiers."""
    buffer = io.BytesIO()
    with ExitStack() as changes:
        canvas = changes.enter_context(_laid_out(figure, FigureCanvasSVG, SVG_DPI))
        changes.enter_context(matplotlib.rc_context({"svg.hashsalt": name}))
        parts = [figure, *figure.axes, *(scale for axes in figure.axes for scale in axes.child_axes)]
        for ground in (each.patch for each in parts):
            changes.callback(ground.set_visible, ground.get_visible())
            ground.set_visible(False)
        canvas.print_svg(buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return buffer.getvalue()


@contextmanager
def _laid_out(figure: Figure, canvas: type[FigureCanvasBase], dpi: int) -> Iterator[FigureCanvasBase]:
    """A canvas on which a file can be written in the figure's style, with the place of each part found once.

    ``savefig`` draws the whole figure twice more to find them.
    """
    engine, usual, resolution = figure.get_layout_engine(), figure.canvas, figure.dpi
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none"}), warnings.catch_warnings():
        # A class name in a script that the font lacks shows as boxes; a warning per letter helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        try:
            drawn = canvas(figure)  # it measures letters in its own way
            figure.dpi = dpi
            if engine is not None:  # a figure of one's own may have none
                engine.execute(figure)
                figure.set_layout_engine("none")
            yield drawn
        finally:
            figure.set_layout_engine(engine)
            figure.set_canvas(usual)
            figure.dpi = resolution


@in_house_style
def adversarial_grid(
    clean: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    clean_predictions: Tensor,
    adversarial_predictions: Tensor,
    class_names: Sequence[str] | None = None,
    magnify: float | None = None,
    clean_confidences: Tensor | None = None,
    adversarial_confidences: Tensor | None = None,
    after_name: str = "adversarial",
) -> Figure:
    """Clean image, adversarial image and their magnified difference, one column a sample, three rows a band.

    Args:
        clean, adversarial: images [N, C, H, W] in [0, 1].
        labels, clean_predictions, adversarial_predictions: class indices [N].
        class_names: names of the classes; default their indices.
        magnify: factor on the difference; default the largest round one that does not saturate.
        clean_confidences, adversarial_confidences: probabilities of the predictions [N] in [0, 1].
        after_name: what the second row is called.

    Raises:
        ValueError: the images do not have one shape [N, C, H, W] with N >= 1.
    """
    if clean.shape != adversarial.shape or clean.ndim != 4 or len(clean) == 0:
        shapes = f"{list(clean.shape)} and {list(adversarial.shape)}"
        raise ValueError(f"a grid needs clean and adversarial images of one shape [N, C, H, W], got {shapes}")
    before, after = _pixels(visible(clean)), _pixels(visible(adversarial))
    magnify = magnify or magnification(adversarial.detach() - clean.detach())
    columns, bands = min(len(before), GRID_COLUMNS), math.ceil(len(before) / GRID_COLUMNS)
    tile_height = 1.12 * min(max(before.shape[1] / before.shape[2], 0.5), 2.0)
    figure = Figure(figsize=(1.0 + 1.12 * columns, bands * (3 * tile_height + 1.0)))
    axes = figure.subplots(3 * bands, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for i in range(len(before)):
        top, column = 3 * (i // columns), i % columns
        label, ranks = int(labels[i]), (int(clean_predictions[i]), int(adversarial_predictions[i]))
        sure = [None if c is None else float(c[i]) for c in (clean_confidences, adversarial_confidences)]
        _show(axes[top, column], before[i])
        _show(axes[top + 1, column], after[i])
        _show_difference(axes[top + 2, column], magnify * (after[i] - before[i]))
        axes[top, column].text(
            0.5,
            1.26,
            class_name(label, class_names),
            transform=axes[top, column].transAxes,
            ha="center",
            weight="bold",
        )
        for panel, prediction, confidence in zip(axes[top : top + 2, column], ranks, sure, strict=True):
            _title_prediction(panel, prediction, label, confidence, class_names)
        distance = float(np.abs(after[i] - before[i]).max())
        axes[top + 2, column].set_title(f"max {distance:.3g}", color=QUIET, fontsize=7.5, pad=3)
    for row, name in enumerate(["clean", after_name, f"difference\n\N{MULTIPLICATION SIGN} {magnify:g}"] * bands):
        axes[row, 0].text(-0.14, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", color=QUIET)
    return figure


def _pixels(images: Tensor) -> np.ndarray:
    return images.detach().float().cpu().permute(0, 2, 3, 1).numpy()  # [N, H, W, C]


def _show(panel: Axes, image: np.ndarray) -> None:
    smoothing = "nearest" if max(image.shape[:2]) <= 96 else "antialiased"
    panel.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image.clip(0, 1), "gray", vmin=0, vmax=1)
    panel.images[0].set_interpolation(smoothing)


def _show_difference(panel: Axes, difference: np.ndarray) -> None:
    """Grey level: blue below, red above; colour: grey where nothing changed."""
    if difference.shape[-1] == 1:
        panel.imshow(difference.squeeze(-1), "RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    else:
        panel.imshow((0.5 + 0.5 * difference).clip(0, 1), interpolation="nearest")


def _title_prediction(
    panel: Axes, prediction: int, label: int, confidence: float | None, names: Sequence[str] | None
) -> None:
    mark, colour = ("✓", RIGHT) if prediction == label else ("✗", WRONG)
    sure = "" if confidence is None or confidence != confidence else f" {100 * confidence:.0f}%"
    panel.set_title(f"{mark} {class_name(prediction, names, 9)}{sure}", color=colour, fontsize=7.5, pad=3)


def class_name(index: int, names: Sequence[str] | None, longest: int = 13) -> str:
    """A class for a picture: its name in one short line, its number where it has none, NaN for no class."""
    if index < 0:
        return "NaN"
    return str(index) if names is None or index >= len(names) else _plain(names[index], longest)


def _plain(name: str, longest: int = 40) -> str:
    """One short line that matplotlib does not read as mathematics."""
    line = " ".join(name.split())
    return (line if len(line) <= longest else line[: longest - 1] + "…").replace("$", r"\$")


@in_house_style
def accuracy_curve(
    curves: Mapping[str, Sequence[tuple[float, float]]], norm: str, samples: Mapping[str, int] | None = None
) -> Figure:
    """Robust accuracy against the radius of the attack, one line an attack.

    Args:
        curves: name of the attack to its points (eps in pixel units of [0, 1], accuracy in [0, 1]).
        norm: ``"Linf"``, ``"L2"`` or ``"L1"``; small Linf radii get a second axis in 1/255.
        samples: name to the number of images behind every point; given, it is said and 95 % intervals are shaded.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    lines = {}
    for i, (name, points) in enumerate(curves.items()):
        eps, accuracy = zip(*sorted(points), strict=True)
        count = (samples or {}).get(name)
        (lines[f"{name} ({count:,} image{'s' * (count > 1)})" if count else name],) = axes.plot(
            eps, accuracy, **_line(i)
        )
        if count:
            bounds = [wilson_interval(round(share * count), count) for share in accuracy]
            axes.fill_between(eps, *zip(*bounds, strict=True), color=COLOURS[i % len(COLOURS)], alpha=0.13, lw=0)
    largest = max(eps for points in curves.values() for eps, _ in points)
    _percent_axis(axes)
    axes.set_xlim(left=0)
    axes.set(xlabel=f"{norm} radius eps".strip(), ylabel="robust accuracy")
    if norm == "Linf" and largest <= 32 / 255:
        levels = axes.secondary_xaxis("top", functions=(lambda eps: 255 * eps, lambda level: level / 255))
        levels.set_xlabel("eps in 1/255")
        levels.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, lines)
    return figure


@in_house_style
def history_curves(
    series: Mapping[str, Sequence[tuple[int, float]]],
    indices: Mapping[str, Sequence[tuple[int, float]]] | None = None,
) -> Figure:
    """Shares over epochs, one line a metric: name to points (epoch, share in [0, 1]).

    Args:
        series: the shares.
        indices: name to points (epoch, number) of anomaly indices, which have an axis of their own.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    beside = axes.twinx() if indices else None
    drawn = {}
    for i, (name, points) in enumerate([*series.items(), *(indices or {}).items()]):
        panel = axes if i < len(series) else beside
        (drawn[name],) = panel.plot(*zip(*sorted(points), strict=True), **_line(i))
    _percent_axis(axes)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if beside is not None:
        beside.set_ylabel("anomaly index")
        beside.set_ylim(bottom=0)
        beside.spines["right"].set_visible(True)
        beside.grid(visible=False)
    legend(figure, drawn)
    return figure


def _line(index: int) -> dict[str, str]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": ("-", "--", ":")[index // len(COLOURS) % 3],
    }


def _percent_axis(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    axes.set(**{f"{which}lim": (-0.02, 1.02)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="x" if which == "y" else "y")


def legend(figure: Figure, artists: Mapping[str, Artist]) -> None:
    """Names above a chart, in as many columns as there is room for.

    Args:
        figure: drawn in the house style.
        artists: name to the line or bars that show how it is drawn.
    """
    names = [_plain(name) for name in artists]
    for name, artist in zip(names, artists.values(), strict=True):
        artist.set_label(name)
    letters = 13 * figure.get_figwidth()
    columns = min(len(names), int(letters // (max(map(len, names), default=0) + 6)))
    figure.legend(list(artists.values()), names, loc="outside upper left", ncols=max(1, columns))


@in_house_style
def class_shares(
    class_names: Sequence[str],
    shares: Mapping[str, Sequence[float | None]],
    label: str = "accuracy",
) -> Figure:
    """A share of every class that has images, one mark for each attack; of more than 40 classes, in falling order.

    Args:
        class_names: names of the K classes.
        shares: name of the attack to K shares in [0, 1]; None where a class has no images.
        label: what the shares are of.

    Raises:
        ValueError: an attack does not have one share a class.
    """
    for name, each in shares.items():
        if len(each) != len(class_names):
            raise ValueError(f"{name!r} has {len(each)} shares for {len(class_names)} classes")
    table = np.array([[math.nan if s is None else s for s in each] for each in shares.values()])  # [A, K]
    sampled = np.flatnonzero(~np.isnan(table).all(axis=0))
    table, names = table[:, sampled], [class_name(k, class_names, 18) for k in sampled]
    named = len(names) <= NAMED_CLASSES
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * max(len(names), 4) if named else HEIGHT))
    axes = figure.add_subplot()
    if named:
        rows = np.arange(len(names))
        for i, each in enumerate(table):
            axes.plot(each, rows, **_line(i) | {"linestyle": "none"}, markersize=6, clip_on=False)
        axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=label)
        axes.set_yticks(rows, names)
    else:
        for i, each in enumerate(table):
            falling = np.sort(each[~np.isnan(each)])[::-1]
            axes.plot(range(1, len(falling) + 1), falling, **_line(i) | {"marker": ""})
        axes.set(xlabel="classes, from the highest share to the lowest", ylabel=label)
    _percent_axis(axes, "x" if named else "y")
    legend(figure, dict(zip(shares, axes.lines, strict=True)))
    return figure


@in_house_style
def confidence_histogram(clean_confidences: Sequence[float], adversarial_confidences: Sequence[float]) -> Figure:
    """How sure the model is of its predictions on clean and on adversarial images: shares of images in 20 bins.

    Args:
        clean_confidences, adversarial_confidences: probabilities of the predicted class, one an image, in [0, 1]; NaN,
            of images without a class, is left out.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    bins, drawn = np.linspace(0, 1, 21), {}
    for i, (name, values) in enumerate({"clean": clean_confidences, "adversarial": adversarial_confidences}.items()):
        values = np.asarray(values, dtype=float)
        values = values[~np.isnan(values)]
        weights = np.full(len(values), 1 / max(len(values), 1))
        label = f"{name}, median {percent(float(np.median(values)))}" if len(values) else f"{name}, no image"
        look = {"color": COLOURS[i], "weights": weights}
        axes.hist(values, bins, histtype="stepfilled", alpha=0.22, **look)
        (drawn[label],) = axes.hist(values, bins, histtype="step", lw=1.8, ls=("-", "--")[i], **look)[2]
    axes.set_xlim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="confidence in the predicted class", ylabel="share of images")
    legend(figure, drawn)
    return figure
