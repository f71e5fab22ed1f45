"""What purifiers give back under attack, by what the attacker knows: the informed figure is the headline."""

from dataclasses import dataclass, field
from functools import partial

from lightning_adv.results.purification_figures import confusions, threat_bars
from lightning_adv.results.result import Cell, EvaluationResult, KeyFigure, Picture, Table, listed, with_shares
from lightning_adv.results.shares import percent, percent_interval, wilson_interval
from lightning_adv.results.strips import Strip

__all__ = ["NONE", "PurificationResult", "PurificationRow"]

NONE = "none"
"""In place of a purifier, an attack or a threat model that there is not."""

BLIND = "blind"
THREATS = (BLIND, "bpda", "bpda_eot", "adaptive", "black_box")
"""The order of columns and bars: by what the attacker knows."""

GAIN = 0.1
"""A purifier looks good where it gives back this much of the accuracy, and deceives where knowing it takes it again."""


@dataclass(frozen=True)
class PurificationRow:
    """One purifier under one attack and threat model.

    Args:
        purifier, attack, threat: names, or ``"none"``.
        samples: images.
        correct: of them, classified correctly in each draw of the purifier [D].
        mean_correct: by the mean prediction of the draws.
        vote_correct: by the class that most draws say.
        worst_correct: in every draw.
        confusion: label by prediction of the first draw [K, K].
    """

    purifier: str
    attack: str
    threat: str
    samples: int
    correct: list[int]
    mean_correct: int
    vote_correct: int
    worst_correct: int
    confusion: list[list[int]]

    @property
    def accuracy(self) -> float:
        """Share of the images classified correctly in one draw, the mean over the draws."""
        return sum(self.correct) / (len(self.correct) * self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The worst and the best draw."""
        return min(self.correct) / self.samples, max(self.correct) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the first draw's share (Wilson)."""
        return wilson_interval(self.correct[0], self.samples)

    @property
    def informed(self) -> bool:
        """Whether the attacker runs the purifier."""
        return self.threat not in (NONE, BLIND)


@dataclass(kw_only=True)
class PurificationResult(EvaluationResult):
    """Purifiers under attacks and threat models.

    Args:
        rows: one a purifier, attack and threat model; that of no purifier, and those of no attack, among them.
        descriptions: purifier or attack to its settings.
        class_names: names of the K classes.
        strips: pictures.

    Raises:
        ValueError: no row without a purifier, or counts that contradict each other.
    """

    rows: list[PurificationRow]
    descriptions: dict[str, str] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.find(NONE, NONE, NONE) is None:
            raise ValueError(f"{self.title}: the undefended model on clean images is missing")
        for row in self.rows:
            limit = min(row.correct) if row.correct else -1
            if not 0 <= row.worst_correct <= limit or max(row.correct) > row.samples:
                raise ValueError(f"{row.purifier} under {row.attack}: {row.correct} of {row.samples} contradict")
        for name in self.purifiers:
            self.warnings += self._warnings_of(name)

    @property
    def purifiers(self) -> list[str]:
        """Names, in order, without that of none."""
        return [name for name in dict.fromkeys(row.purifier for row in self.rows) if name != NONE]

    @property
    def attacks(self) -> list[str]:
        """Names, in order, without that of none."""
        return [name for name in dict.fromkeys(row.attack for row in self.rows) if name != NONE]

    @property
    def threats(self) -> list[str]:
        """Names of the threat models measured, from the least informed on, the black box last."""
        measured = {row.threat for row in self.rows}
        return [each for each in THREATS if each in measured]

    def find(self, purifier: str, attack: str, threat: str) -> PurificationRow | None:
        """The row, if there is one."""
        wanted = (purifier, attack, threat)
        return next((row for row in self.rows if (row.purifier, row.attack, row.threat) == wanted), None)

    def informed(self, purifier: str, attack: str | None = None) -> PurificationRow | None:
        """What an attacker who knows the purifier achieves: the row of least accuracy, of one attack or of all.

        None if no informed attack was measured. Where a blind one is stronger, it is that one: who knows more may
        attack as if knowing less.
        """
        rows = [row for row in self.rows if row.purifier == purifier and row.threat != NONE]
        rows = [row for row in rows if attack is None or row.attack == attack]
        if not any(row.informed for row in rows):
            return None
        return min(rows, key=lambda row: row.accuracy)

    def scalars(self) -> dict[str, float]:
        """``<purifier>/clean_accuracy``, ``.../<attack>/<threat>/robust_accuracy``, ``.../informed_accuracy``."""
        scalars = {}
        for row in self.rows:
            name = "undefended" if row.purifier == NONE else row.purifier
            if row.attack == NONE:
                scalars[f"{name}/clean_accuracy"] = row.accuracy
                continue
            key = f"{name}/{row.attack}" if row.purifier == NONE else f"{name}/{row.attack}/{row.threat}"
            scalars[f"{key}/robust_accuracy"] = row.accuracy
            if len(row.correct) > 1:
                scalars[f"{key}/worst_of_draws"] = row.worst_correct / row.samples
        for name in self.purifiers:
            if (row := self.informed(name)) is not None:
                scalars[f"{name}/informed_accuracy"] = row.accuracy
        return scalars

    def summary(self) -> str:
        """The purifier that keeps most under informed attack, in words."""
        clean = self.find(NONE, NONE, NONE)
        kept = {name: row for name in self.purifiers if (row := self.informed(name)) is not None}
        text = (
            f"Without a purifier the model classifies {percent(clean.accuracy)} of {clean.samples:,} images correctly"
        )
        if not kept:
            return f"{text}; no attack here knew a purifier, so nothing is said of what they withstand."
        best = max(kept, key=lambda name: kept[name].accuracy)
        equal = [name for name in kept if kept[name].accuracy == kept[best].accuracy]
        most = f"{text}; under the strongest attack that knows"
        if len(equal) > 1:
            return f"{most} them, {listed(equal)} keep as much, {percent(kept[best].accuracy)}."
        return (
            f"{most} it, {best} keeps{' most,' * (len(kept) > 1)} {percent(kept[best].accuracy)} "
            f"({kept[best].attack}, {kept[best].threat})."
        )

    def key_figures(self) -> list[KeyFigure]:
        """Informed accuracy of every purifier, the best as a card; then what blind attacks leave."""
        figures = []
        kept = {name: row for name in self.purifiers if (row := self.informed(name)) is not None}
        best = max(kept, key=lambda name: kept[name].accuracy, default="")
        for name, row in kept.items():
            basis = f"{row.attack}, {row.threat}; {self.descriptions.get(row.attack, '')}"
            label = f"Accuracy with {name} under informed attack"
            figures.append(KeyFigure(f"{name}/informed_accuracy", label, basis, row.interval, card=name == best))
        return figures

    def tables(self) -> list[Table]:
        """Accuracy by threat model, then draws and their spread."""
        return [self._main_table(), *self._draw_tables()]

    def _main_table(self) -> Table:
        threats = self.threats
        informed = [each for each in threats if each != BLIND]
        columns = ["Purifier, attack", "No purifier", *threats, *(["Strongest"] if informed else [])]
        rows: list[list[Cell]] = []
        for name in self.purifiers:
            rows.append(self._table_row(name, NONE, threats, bool(informed)))
            rows += [self._table_row(name, attack, threats, bool(informed)) for attack in self._attacks_on(name)]
        settings = "; ".join(f"{name}: {text}" for name, text in self.descriptions.items())
        note = (
            "Accuracy in one draw, the mean over the draws. blind: the attacker knows the classifier alone (a transfer "
            "attack); bpda: backwards through a surrogate of the purifier; bpda_eot: over several draws; adaptive: "
            "exact gradient, over several draws where the purifier is random; black_box: outputs of the whole. An "
            "empty cell says nothing more than its neighbour or was not asked for; the one figure of clean images "
            f"stands in the first of these columns. {settings}"
        )
        return Table("Accuracy by what the attacker knows", columns, rows, percent=tuple(columns[1:]), note=note)

    def _attacks_on(self, purifier: str) -> list[str]:
        return [each for each in dict.fromkeys(r.attack for r in self.rows if r.purifier == purifier) if each != NONE]

    def _table_row(self, purifier: str, attack: str, threats: list[str], informed: bool) -> list[Cell]:
        def share(row: PurificationRow | None) -> float | None:
            return None if row is None else row.accuracy

        if attack == NONE:
            clean = share(self.find(purifier, NONE, NONE))
            cells = [clean if each == BLIND else None for each in threats]
            if BLIND not in threats:
                cells[0] = clean
            return [
                f"{purifier}, clean images",
                share(self.find(NONE, NONE, NONE)),
                *cells,
                *([None] if informed else []),
            ]
        cells = [share(self.find(purifier, attack, each)) for each in threats]
        last = [share(self.informed(purifier, attack))] if informed else []
        return [f"{purifier}, {attack}", share(self.find(NONE, attack, NONE)), *cells, *last]

    def _draw_tables(self) -> list[Table]:
        rows: list[list[Cell]] = []
        for row in self.rows:
            if len(row.correct) > 1 and row.purifier != NONE and row.attack != NONE and len(set(row.correct)) > 1:
                low, high = row.spread
                counts = (row.mean_correct, row.vote_correct, row.worst_correct)
                shares = [row.accuracy, low, high, *(count / row.samples for count in counts)]
                rows.append([f"{row.purifier}, {row.attack}, {row.threat}", *shares, percent_interval(row.interval)])
        if not rows:
            return []
        columns = ["One draw", "Worst draw", "Best draw", "Mean of draws", "Vote of draws", "Right in every draw"]
        return [
            Table(
                "Several draws of the randomised purifiers",
                ["Purifier, attack, threat", *columns, "95% interval, one draw"],
                rows,
                percent=tuple(columns),
            )
        ]

    def pictures(self) -> list[Picture]:
        """Blind beside informed, strips of images, confusion before and after."""
        pictures = []
        if self.attacks:
            caption = "One bar a threat model; the least of an attack's bars is what a purifier withstands."
            title = "What a purifier withstands, by what the attacker knows"
            pictures.append(Picture("threats", title, partial(threat_bars, *self._bars()), caption))
        pictures += [strip.picture(self.class_names) for strip in self.strips]
        for attack in self.attacks[:1]:
            rows = [self.find(NONE, attack, NONE), *(self.find(name, attack, BLIND) for name in self.purifiers)]
            rows += [self.informed(name, attack) for name in self.purifiers]
            tables = {
                "no purifier" if row.purifier == NONE else f"{row.purifier}, {row.threat}": row.confusion
                for row in rows
                if row is not None
            }
            pictures.append(
                Picture(
                    "confusion",
                    f"Confusion under {attack}",
                    partial(confusions, tables, self.class_names),
                    "Rows are labels, columns predictions, in shares of a row.",
                )
            )
        return pictures

    def as_dict(self) -> dict:
        """Rows with their shares, and settings."""
        return {
            "rows": [with_shares(row, "accuracy", "spread", "interval", "informed") for row in self.rows],
            "descriptions": dict(self.descriptions),
            "class_names": list(self.class_names),
        }

    def _bars(self) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, float], list[str]]:
        """Accuracy by attack, threat model and purifier; without a purifier by attack; the purifiers."""
        found = {
            attack: {
                threat: {
                    name: row.accuracy
                    for name in self.purifiers
                    if (row := self.find(name, attack, threat)) is not None
                }
                for threat in self.threats
            }
            for attack in self.attacks
        }
        undefended = {attack: self.find(NONE, attack, NONE) for attack in self.attacks}
        before = {attack: row.accuracy for attack, row in undefended.items() if row is not None}
        return found, before, self.purifiers

    def _warnings_of(self, purifier: str) -> list[str]:
        """Where a purifier looks good only to those who do not ask what an attacker may know."""
        warnings = []
        blind_only = []
        for attack in self._attacks_on(purifier):
            before, blind = self.find(NONE, attack, NONE), self.find(purifier, attack, BLIND)
            if before is None or blind is None or blind.accuracy < before.accuracy + GAIN:
                continue
            strongest = self.informed(purifier, attack)
            if strongest is None:
                blind_only.append(attack)
            elif strongest.accuracy < before.accuracy + (blind.accuracy - before.accuracy) / 2:
                warnings.append(
                    f"{purifier} looks good under {attack} only to an attacker who does not know it: "
                    f"{percent(blind.accuracy)} blind, {percent(strongest.accuracy)} {strongest.threat}."
                )
        if blind_only:
            warnings.append(
                f"{purifier} was measured under {', '.join(blind_only)} by blind attackers alone: such figures say "
                "nothing of one who knows the purifier; add bpda, bpda_eot or adaptive."
            )
        return warnings
