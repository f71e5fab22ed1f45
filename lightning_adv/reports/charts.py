"""Charts as part of a page: SVG in the page's own colours and letters, which says in words what it shows."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from lightning_adv.results.figures import COLOURS, EDGE, INK, LINE, PALE, QUIET, svg

__all__ = ["described", "inline_svg"]

THEME = {INK: "ink", QUIET: "quiet", EDGE: "edge", LINE: "line", PALE: "pale"}
THEME |= {colour: f"series-{number}" for number, colour in enumerate(COLOURS)}
VARIABLES = {colour.lower(): f"var(--{name})" for colour, name in THEME.items()}


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """A figure as an element ``<svg>`` of a page, which scales down with it.

    Args:
        figure: in the house style.
        name: of the chart, which no other on the page has.
        title: what a screen reader says first.
    """
    chart = ElementTree.fromstring(svg(figure, name))
    chart.remove(chart.find("{*}defs"))  # rules for every element of a page, which its own style has
    for element in chart.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            if key != "id" or element.tag not in ("g", "svg"):  # nothing refers to a group
                element.set(key.rpartition("}")[2], _of_the_page(key, value, name))
    width = round(100 * figure.get_figwidth())
    words = {"title": title, "desc": described(figure)}
    for place, (tag, text) in enumerate(words.items()):
        spoken = ElementTree.Element(tag, id=f"{name}-{tag}")
        spoken.text = text
        chart.insert(place, spoken)
    view = {"viewBox": chart.get("viewBox", ""), "style": f"max-width: {width}px", "role": "img"}
    chart.attrib = view | {"aria-labelledby": " ".join(f"{name}-{tag}" for tag in words)}
    return ElementTree.tostring(chart, encoding="unicode")


def _of_the_page(key: str, value: str, name: str) -> str:
    if key == "style":
        value = re.sub(r"#[0-9a-f]{6}", lambda found: VARIABLES.get(found[0], found[0]), value)
        return re.sub(r"font-family:[^;]*;?|(?<=px) [^;]*(?=;|$)", "", value)  # the page's letters
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href") and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return re.sub(r"url\(#", f"url(#{name}-", value)


def described(figure: Figure) -> str:
    """What the lines of a chart show, in words: axes, and where each line begins and ends."""
    return " ".join(part for axes in figure.axes for part in _described(axes))


def _described(axes: Axes) -> Iterator[str]:
    subject = " over ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
    heading = ": ".join(filter(None, (axes.get_title(), subject)))
    if heading:
        yield f"{heading}."
    for line in axes.get_lines():
        if not line.get_label().startswith("_") and len(line.get_xydata()):
            yield f"{line.get_label()}: {_course(axes, line)}."


def _course(axes: Axes, line: Line2D) -> str:
    flat = isinstance(axes.xaxis.get_major_formatter(), PercentFormatter) and line.get_linestyle() == "None"
    axis, column = (axes.xaxis, 0) if flat else (axes.yaxis, 1)
    shares = isinstance(axis.get_major_formatter(), PercentFormatter)
    values = [float(each) for each in line.get_xydata()[:, column] if each == each]
    ends = (min(values), max(values)) if line.get_linestyle() == "None" else (values[0], values[-1])
    return " to ".join(f"{100 * value:.1f}%" if shares else f"{value:.3g}" for value in ends)
