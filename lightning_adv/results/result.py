"""What an evaluation leaves behind: scalars for loggers, tables and pictures for people, plain data for JSON."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = [
    "Answer",
    "Cell",
    "EvaluationResult",
    "KeyFigure",
    "Picture",
    "Table",
    "Tile",
    "joint_warnings",
    "listed",
    "with_shares",
]

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns; floats between 0 and 1 in a column listed in ``percent`` are shown as percentages.

    Args:
        title: what the table shows, a few words.
        columns: names of the columns, the first names the row.
        rows: one sequence of cells a row, as long as ``columns``.
        percent: names of the columns that hold shares in [0, 1].
        note: one sentence under the table (how to read it, what was counted).
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    percent: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: row {row} does not have {len(self.columns)} cells")


@dataclass(frozen=True)
class Tile:
    """Images of one sample, side by side, with their text.

    Args:
        images: [n, 3, H, W] in [0, 1].
        title: a word or two.
        lines: of text, each with whether it says that the model is right.
        alt: what the images show, for who does not see them.
    """

    images: "Tensor"
    title: str
    lines: list[tuple[str, bool]]
    alt: str


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn only when somebody wants it.

    Args:
        name: file stem, unique within a result, e.g. ``"pgd_examples"``.
        title: heading above the picture.
        draw: makes the matplotlib figure; the caller closes it.
        caption: one sentence below the picture.
        tiles: makes headings with images under each, which a page shows in place of the figure.
        alt: what a figure of images shows, for who does not see it; None for a chart of lines or bars, which a page
            holds as text.
        folded: whether a page shows it only to who asks.
    """

    name: str
    title: str
    draw: Callable[[], "Figure"]
    caption: str = ""
    tiles: Callable[[], Mapping[str, Sequence[Tile]]] | None = None
    alt: str | None = None
    folded: bool = False


@dataclass(frozen=True)
class KeyFigure:
    """A scalar that readers compare between runs; the report sets it beside the same scalar of every baseline.

    Args:
        scalar: its key in ``EvaluationResult.scalars()``; the value is a share in [0, 1].
        label: its name for people, e.g. ``"Worst-case robust accuracy"``.
        basis: what it was measured with, e.g. the attack's settings; two figures compare only where this is equal.
        interval: lower and upper end of the 95 % confidence interval.
        card: whether it stands in large type at the top of the page.
    """

    scalar: str
    label: str
    basis: str = ""
    interval: tuple[float, float] | None = None
    card: bool = False


@dataclass(frozen=True)
class Answer:
    """What a result says to the question that an audit asks it.

    Args:
        question: in words.
        short: a word or a figure.
        text: one or two sentences.
    """

    question: str
    short: str
    text: str


@dataclass
class EvaluationResult(ABC):
    """Base of all typed results: what a callback measured in one stage at one epoch.

    Args:
        title: heading of its section in the report.
        epoch: epoch after which it was measured, counted from 1; 0 outside ``fit``.
        stage: ``"val"`` or ``"test"``.
        warnings: sentences a reader must see before the figures.
    """

    title: str
    epoch: int = 0
    stage: str = "val"
    warnings: list[str] = field(default_factory=list)

    question: ClassVar[str] = "What was measured?"
    """What an audit asks of it."""

    @abstractmethod
    def scalars(self) -> dict[str, float]:
        """Metric name without the stage, e.g. ``"pgd/robust_accuracy"``, to its value."""

    @abstractmethod
    def tables(self) -> list[Table]:
        """Tables of the section, the most important first."""

    def scope(self) -> str:
        """On what it was measured, in a few words: images, budgets."""
        return ""

    def summary(self) -> str:
        """One or two sentences with the outcome, for the top of the report."""
        return ""

    def answer(self) -> Answer:
        """The outcome as an answer to the question."""
        return Answer(self.question, "See below", self.summary())

    def key_figures(self) -> list[KeyFigure]:
        """Scalars worth comparing with other runs, the most important first."""
        return []

    def pictures(self) -> list[Picture]:
        """Pictures of the section, the most telling first."""
        return []

    def warnings_beside(self, other: "EvaluationResult") -> list[str]:
        """What this result says about another one of the same stage and epoch; both sections of a report show it."""
        return []

    @abstractmethod
    def as_dict(self) -> dict:
        """Plain data (numbers, strings, lists, dicts) for ``results.json``."""


def listed(names: Sequence[str]) -> str:
    """Names in words, of many the first three.

    Example:
        >>> listed(["pgd"]), listed(["pgd", "apgd", "fab"])
        ('pgd', 'pgd, apgd and fab')
    """
    names = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else list(names)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def with_shares(row: object, *names: str) -> dict:
    """A row of a result as plain data, with properties of it by name; pairs become lists, as JSON has them."""
    derived = {name: getattr(row, name) for name in names}
    return asdict(row) | {name: list(each) if isinstance(each, tuple) else each for name, each in derived.items()}


def joint_warnings(results: Sequence[EvaluationResult]) -> list[list[str]]:
    """The warnings of every result, with what others of the same stage and epoch say about it and it about them."""
    warnings = [list(result.warnings) for result in results]
    for (i, one), (j, other) in permutations(enumerate(results), 2):
        if (one.stage, one.epoch) == (other.stage, other.epoch):
            said = one.warnings_beside(other)
            warnings[i] += said
            warnings[j] += said
    return warnings
