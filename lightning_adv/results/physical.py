"""What a camera leaves of adversarial images (Kurakin, Goodfellow, Bengio, 2017), and what became of the images."""

from dataclasses import dataclass, field
from functools import partial

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_adv.asking import predicted
from lightning_adv.attacks.budget import as_text
from lightning_adv.metrics import Destruction, Outcomes
from lightning_adv.metrics.outcomes import class_ranks
from lightning_adv.results.figures import COLOURS, HEIGHT, MARKERS, WIDTH, in_house_style, legend
from lightning_adv.results.result import Cell, EvaluationResult, KeyFigure, Picture, Table, listed, with_shares
from lightning_adv.results.shares import percent, percent_interval, wilson_interval
from lightning_adv.results.strips import Strip

__all__ = ["PhotographTally", "PhotographedAttack", "PhysicalResult", "destruction_rates"]

LOSS = 0.1
"""Photographs that cost more of the clean accuracy than this are told of first."""

KINDS = ("true", "refocused", "conatural", "benign", "robust", "wrong")


@dataclass(frozen=True)
class PhotographedAttack:
    """One attack, with one budget, and photographs of what it made.

    Args:
        attack: its name.
        eps: its budget, None of an attack without one.
        aware: whether it was made through the camera.
        destruction: images that it fooled the model with, and of them those whose photographs are classified
            correctly.
        outcomes: what became of all images before a camera saw them.
        top_5: images whose label is among the five likeliest classes under attack, and in the photograph.
        photographed_correct: images whose photographs are classified correctly.
    """

    attack: str
    eps: float | None
    aware: bool
    destruction: Destruction
    outcomes: Outcomes
    top_5: tuple[int, int]
    photographed_correct: int

    @property
    def label(self) -> str:
        """Name and budget."""
        return self.attack if self.eps is None else f"{self.attack}, eps {as_text(self.eps)}"

    @property
    def attacked_accuracy(self) -> float:
        """Share of the images classified correctly under attack."""
        return (self.outcomes.robust + self.outcomes.benign) / self.outcomes.samples

    @property
    def photographed_accuracy(self) -> float:
        """Share of the images whose photographs are classified correctly."""
        return self.photographed_correct / self.outcomes.samples

    @property
    def photographed_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of this share."""
        return wilson_interval(self.photographed_correct, self.outcomes.samples)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the destruction rate; None where nothing was fooled."""
        found = self.destruction
        return wilson_interval(found.destroyed, found.fooled) if found.fooled else None


@dataclass(kw_only=True)
class PhysicalResult(EvaluationResult):
    """Attacks before and behind a camera.

    Args:
        rows: one an attack and budget, budgets ascending.
        samples, clean_correct, photographed_correct: images, those classified correctly, and those whose photographs
            are, without attack.
        world: the camera's settings.
        descriptions: attack to its settings.
        related: pairs of classes that count as related.
        strips: pictures.

    Raises:
        ValueError: no row, or rows of other numbers of images.
    """

    rows: list[PhotographedAttack]
    samples: int
    clean_correct: int
    photographed_correct: int
    world: str
    descriptions: dict[str, str] = field(default_factory=dict)
    related: list[tuple[str, str]] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.rows or any(row.outcomes.samples != self.samples for row in self.rows):
            raise ValueError(f"{self.title}: every row needs {self.samples} images, and there must be one")
        lost = (self.clean_correct - self.photographed_correct) / self.samples
        if lost > LOSS:
            self.warnings.append(
                f"The camera alone costs {100 * lost:.1f} points of clean accuracy: an attack whose photographs are "
                "classified wrongly need not have survived it; a milder PhysicalWorld tells more."
            )
        if not any(row.aware for row in self.rows):
            self.warnings.append(
                "No attack here knows of the camera, so the figures say nothing of one that does: add an EOT attack."
            )

    @property
    def attacks(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(row.attack for row in self.rows))

    def of(self, attack: str) -> list[PhotographedAttack]:
        """Rows of one attack, budgets ascending."""
        return [row for row in self.rows if row.attack == attack]

    def scalars(self) -> dict[str, float]:
        """``physical/<attack>/destruction_rate`` and ``photograph_accuracy``, by eps where there are several."""
        scalars = {
            "physical/clean_accuracy": self.clean_correct / self.samples,
            "physical/photograph_accuracy": self.photographed_correct / self.samples,
        }
        for row in self.rows:
            key = self._key(row)
            scalars[f"{key}/photograph_accuracy"] = row.photographed_accuracy
            if row.destruction.rate is not None:
                scalars[f"{key}/destruction_rate"] = row.destruction.rate
        return scalars

    def summary(self) -> str:
        """The attack that a camera undoes least, at the largest budget, in words."""
        last = [self.of(name)[-1] for name in self.attacks]
        fooled = [row for row in last if row.destruction.fooled]
        if not fooled:
            return "No attack fooled the model, so there was nothing for a camera to undo."
        best = min(fooled, key=lambda row: row.destruction.rate)
        equal = [row.label for row in fooled if row.destruction.rate == best.destruction.rate]
        undone = f"A camera undoes {percent(best.destruction.rate)}"
        if len(equal) > 1:
            return f"{undone} of what {listed(equal)} achieved each."
        least = f", the least of {len(fooled)} attacks" if len(fooled) > 1 else ""
        return (
            f"{undone} ({percent_interval(best.interval)}) of what {best.label} achieved{least}; "
            f"{percent(best.photographed_accuracy)} of its photographs are classified correctly."
        )

    def key_figures(self) -> list[KeyFigure]:
        """Accuracy on photographs of each attack at its largest budget."""
        rows = [self.of(name)[-1] for name in self.attacks]
        return [
            KeyFigure(
                f"{self._key(row)}/photograph_accuracy",
                f"Accuracy on photographs of {row.label}",
                f"{self.descriptions.get(row.attack, '')}; {self.world}",
                row.photographed_interval,
            )
            for row in rows
        ]

    def tables(self) -> list[Table]:
        """Destruction rates, then kinds of outcome."""
        columns = ["Accuracy", "In photographs", "Top-5", "Top-5 there"]
        rows: list[list[Cell]] = []
        for row in self.rows:
            found, top_5 = row.destruction, [count / self.samples for count in row.top_5]
            shares = [row.attacked_accuracy, row.photographed_accuracy, *top_5]
            rows.append([row.label, found.rate, percent_interval(row.interval), found.fooled, *shares])
        settings = "; ".join(f"{name}: {text}" for name, text in self.descriptions.items())
        aware = [name for name in self.attacks if self.of(name)[0].aware]
        known = f"{', '.join(aware)} attacked through the camera, with other photographs than these. " if aware else ""
        clean, photo = (count / self.samples for count in (self.clean_correct, self.photographed_correct))
        note = (
            "Destruction rate: of the images that are classified correctly clean and wrongly under attack (fooled), "
            f"those whose photographs are classified correctly again. In photographs: accuracy on these. "
            f"{self.samples:,} images; without attack {percent(clean)} are correct, and {percent(photo)} of their "
            f"photographs. {known}Camera: {self.world}. {settings}"
        )
        shown = ("Destruction rate", *columns)
        first = ["Attack", "Destruction rate", "95% interval", "Fooled"]
        return [Table("What a camera undoes", [*first, *columns], rows, shown, note), self._outcome_table()]

    def _outcome_table(self) -> Table:
        rows: list[list[Cell]] = [[row.label, *(vars(row.outcomes)[kind] for kind in KINDS)] for row in self.rows]
        pairs = ", ".join(f"{one} and {other}" for one, other in self.related[:12])
        more = f" and {len(self.related) - 12} more pairs" if len(self.related) > 12 else ""
        note = (
            "Images, before a camera saw them. True: wrong now, for a class neither in sight nor related; refocused: "
            "for one that was among the five likeliest before, and the label still is among them; conatural: for a "
            f"related class ({pairs or 'none are'}{more}); benign: wrong before, right now."
        )
        return Table("Kinds of outcome", ["Attack", *map(str.capitalize, KINDS)], rows, note=note)

    def pictures(self) -> list[Picture]:
        """Destruction rates with their intervals, and images with their photographs."""
        rates = Picture(
            "destruction",
            "Destruction rates",
            partial(destruction_rates, self),
            "Of the images that an attack fooled the model with, those that a camera undoes, with 95 % intervals.",
        )
        return [rates, *(each.picture(self.class_names) for each in self.strips)]

    def as_dict(self) -> dict:
        """Rows with their shares, and settings."""
        derived = ("label", "attacked_accuracy", "photographed_accuracy", "photographed_interval", "interval")
        rows = [with_shares(row, *derived) | {"destruction_rate": row.destruction.rate} for row in self.rows]
        named = ("samples", "clean_correct", "photographed_correct", "world", "descriptions", "related", "class_names")
        return {"rows": rows} | {name: vars(self)[name] for name in named}

    def _key(self, row: PhotographedAttack) -> str:
        swept = len(self.of(row.attack)) > 1
        # A slash would open a group in the loggers.
        return f"physical/{row.attack}" + (f"/eps_{as_text(row.eps).replace('/', '-')}" if swept else "")


TOP = 5


class PhotographTally(Metric):
    """What a model says of each image, of the image under attack and of a photograph of this.

    ``compute`` gives one row an image, in no order: label; the classes said of the clean image, of the attacked one and
    of its photograph, ``NO_CLASS`` for NaN; then 0 or 1: whether the class said under attack was among the five
    likeliest before and the label still is (see ``outcomes``), and whether the label is among the five likeliest under
    attack, and in the photograph.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx="cat")
        nothing = torch.zeros(0, 2)
        self.update(nothing[:, 0].long(), nothing, nothing, nothing)  # a rank without an image has a table to gather

    def update(self, label: Tensor, clean: Tensor, attacked: Tensor, photographed: Tensor) -> None:
        """Add a batch: labels [N], and logits [N, K] of the images, of these attacked, of the photographs."""
        said = predicted(attacked)
        under_attack = class_ranks(attacked, label) < TOP
        columns = (
            label,
            predicted(clean),
            said,
            predicted(photographed),
            (class_ranks(clean, said) < TOP) & under_attack,
            under_attack,
            class_ranks(photographed, label) < TOP,
        )
        self.rows.append(torch.stack([column.long() for column in columns], dim=1))

    def compute(self) -> Tensor:
        """[N, 7] int64 over all ranks."""
        return dim_zero_cat(self.rows)


@in_house_style
def destruction_rates(result: "PhysicalResult") -> Figure:
    """Destruction rate with its interval: over eps, one line an attack, or one point an attack with one budget."""
    swept = [name for name in result.attacks if len(result.of(name)) > 1]
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes, lines = figure.add_subplot(), {}
    for number, name in enumerate(result.attacks):
        rows = [row for row in result.of(name) if row.interval is not None]
        rates = [row.destruction.rate for row in rows]
        spread = [[abs(rate - row.interval[end]) for rate, row in zip(rates, rows, strict=True)] for end in (0, 1)]
        look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "capsize": 3}
        if not swept:
            axes.errorbar([number] * len(rates), rates, spread, ls="none", **look)
        elif name in swept:
            lines[name] = axes.errorbar([row.eps for row in rows], rates, spread, **look)[0]
        else:
            level = rates[0] if rates else 0
            lines[f"{name}, any distance"] = axes.axhline(level, color=look["color"], ls=":")
    if swept:
        axes.set_xlim(left=0)
        axes.set_xlabel("eps in pixel units of [0, 1]")
        legend(figure, lines)
    else:
        axes.set_xticks(range(len(result.attacks)), [result.of(name)[0].label for name in result.attacks])
        axes.set_xlim(-0.6, len(result.attacks) - 0.4)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("destruction rate")
    return figure
