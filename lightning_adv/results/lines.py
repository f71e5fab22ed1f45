"""A result as lines of text, for people at a terminal."""

from collections.abc import Iterator, Sequence

from lightning_adv.results.result import EvaluationResult, KeyFigure
from lightning_adv.results.shares import percent, percent_interval

__all__ = ["fitted", "lines"]

INDENT = "  "


def lines(result: EvaluationResult, warnings: Sequence[str], width: int | None = None) -> Iterator[str]:
    """Title, outcome in words, key figures with their intervals and what they were measured with, warnings.

    Args:
        result: of an evaluation.
        warnings: its own, with what others say about it.
        width: columns of the terminal; None for a pipe, whose lines are as long as they need.
    """
    yield f"{result.title} ({result.stage})"
    if result.summary():
        yield from fitted(result.summary().split(" "), width, " ")
    scalars, figures = result.scalars(), result.key_figures()
    room = max((len(figure.label) for figure in figures), default=0)
    for figure in figures:
        yield _cut(_row(figure, scalars[figure.scalar], room), width)
    for warning in warnings:
        yield from fitted(f"warning: {warning}".split(" "), width, " ")


def fitted(parts: Sequence[str], width: int | None, gap: str = INDENT) -> list[str]:
    """Parts put into as few lines as a terminal needs, each indented; a part itself is never broken.

    Example:
        >>> fitted(["clean 97.0%", "pgd20 83.4%", "loss 0.345"], 29)
        ['  clean 97.0%  pgd20 83.4%', '  loss 0.345']
    """
    found: list[str] = []
    for part in parts:
        longer = f"{found[-1]}{gap}{part}" if found else ""
        if found and (width is None or len(longer) <= width):
            found[-1] = longer
        else:
            found.append(f"{INDENT}{part}")
    return found


def _row(figure: KeyFigure, share: float, room: int) -> str:
    interval = percent_interval(figure.interval) if figure.interval else ""
    return f"{INDENT}{figure.label:{room}}  {percent(share):>6}  {interval:>11}  {figure.basis}".rstrip()


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else f"{line[: width - 1]}\N{HORIZONTAL ELLIPSIS}"
