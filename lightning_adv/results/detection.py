"""How detectors tell adversarial samples from normal ones, attack by attack."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from matplotlib.figure import Figure

from lightning_adv.results.figures import COLOURS, EDGE, WIDTH, in_house_style, legend
from lightning_adv.results.result import Cell, EvaluationResult, KeyFigure, Picture, Table, listed, with_shares

__all__ = ["DetectionResult", "DetectionRow", "TransferRow", "roc_curves", "score_histograms"]


@dataclass(frozen=True)
class DetectionRow:
    """One detector on one kind of adversarial sample, against the normal samples; all of them held out.

    Args:
        detector, attack: their names.
        normal, adversarial: samples.
        false_positives, true_positives: of them judged suspicious.
        auroc: area under the ROC curve of the score.
        interval: its 95 % interval (Hanley and McNeil).
        normal_score, adversarial_score: mean scores.
        mutations: mean number of mutations, of a sequential test.
        undecided: samples that such a test did not decide.
    """

    detector: str
    attack: str
    normal: int
    adversarial: int
    false_positives: int
    true_positives: int
    auroc: float
    interval: tuple[float, float]
    normal_score: float
    adversarial_score: float
    mutations: float | None = None
    undecided: int | None = None

    @property
    def precision(self) -> float | None:
        """Share of the suspicious samples that are adversarial; None where none is suspicious."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else None

    @property
    def recall(self) -> float:
        """Share of the adversarial samples judged suspicious."""
        return self.true_positives / self.adversarial

    @property
    def false_positive_rate(self) -> float:
        """Share of the normal samples judged suspicious."""
        return self.false_positives / self.normal

    @property
    def accuracy(self) -> float:
        """Mean of the shares of normal and of adversarial samples judged rightly, whatever their numbers."""
        return (self.recall + 1 - self.false_positive_rate) / 2


@dataclass(frozen=True)
class TransferRow:
    """A regression on one detector's measures, fitted on one attack: how it fares on each.

    Args:
        detector, fitted_on: names.
        auroc, accuracy: attack to figure.
    """

    detector: str
    fitted_on: str
    auroc: dict[str, float]
    accuracy: dict[str, float]


@dataclass(kw_only=True)
class DetectionResult(EvaluationResult):
    """Detectors against attacks.

    Args:
        rows: one a pair of detector and attack.
        descriptions: detector to its settings.
        attack_descriptions: attack to its settings.
        transfer: fitted on one attack, tested on the others.
        curves: attack to detector to points of the ROC curve.
        scores: detector to kind of sample to scores.

    Raises:
        ValueError: no row, or a row without samples.
    """

    rows: list[DetectionRow]
    descriptions: dict[str, str] = field(default_factory=dict)
    attack_descriptions: dict[str, str] = field(default_factory=dict)
    transfer: list[TransferRow] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    scores: dict[str, dict[str, Sequence[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError(f"{self.title}: no detector has met both normal and adversarial samples")
        for row in self.rows:
            if not (0 <= row.true_positives <= row.adversarial and 0 <= row.false_positives <= row.normal):
                raise ValueError(f"{row.detector} against {row.attack}: more suspicious samples than samples")
            if row.normal < 1 or row.adversarial < 1:
                raise ValueError(f"{row.detector} against {row.attack} has no sample of one kind")

    @property
    def detectors(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(row.detector for row in self.rows))

    @property
    def attacks(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(row.attack for row in self.rows))

    def mean_auroc(self, detector: str) -> float:
        """Mean over the attacks."""
        areas = [row.auroc for row in self.rows if row.detector == detector]
        return sum(areas) / len(areas)

    def scalars(self) -> dict[str, float]:
        """``<detector>/<attack>/auroc`` and its companions, ``<detector>/mean_auroc``."""
        scalars = {f"{name}/mean_auroc": self.mean_auroc(name) for name in self.detectors}
        for row in self.rows:
            values = {"auroc": row.auroc, "precision": row.precision, "recall": row.recall, "accuracy": row.accuracy}
            values |= {"mutations": row.mutations}
            scalars |= {f"{row.detector}/{row.attack}/{k}": v for k, v in values.items() if v is not None}
        return scalars

    def summary(self) -> str:
        """The best detector on average, in words."""
        best = self.mean_auroc(max(self.detectors, key=self.mean_auroc))
        equal = [name for name in self.detectors if self.mean_auroc(name) == best]
        verb = "has" if len(equal) == 1 else "have"
        kinds = f"{len(self.attacks)} kind{'s' if len(self.attacks) > 1 else ''} of adversarial samples"
        return f"Over {kinds}, {listed(equal)} {verb} the highest mean AUROC, {best:.3f}."

    def key_figures(self) -> list[KeyFigure]:
        """Mean AUROC of every detector, the best as a card."""
        best = max(self.detectors, key=self.mean_auroc)
        return [
            KeyFigure(f"{name}/mean_auroc", f"Mean AUROC, {name}", self._basis(name), card=name == best)
            for name in self.detectors
        ]

    def _basis(self, detector: str) -> str:
        met = [row.attack for row in self.rows if row.detector == detector]
        against = (": ".join(filter(None, (name, self.attack_descriptions.get(name)))) for name in met)
        return f"{self.descriptions.get(detector, detector)}; against {', '.join(against)}"

    def tables(self) -> list[Table]:
        """AUROC, verdicts, transfer."""
        return [self._auroc_table(), self._verdict_table(), *self._transfer_tables()]

    def _auroc_table(self) -> Table:
        found = {(row.detector, row.attack): row for row in self.rows}
        rows: list[list[Cell]] = []
        for attack in self.attacks:
            cells = [found.get((name, attack)) for name in self.detectors]
            rows.append(
                [
                    attack,
                    *(row and f"{row.auroc:.3f} ({row.interval[0]:.3f} to {row.interval[1]:.3f})" for row in cells),
                ]
            )
        rows.append(["mean", *(f"{self.mean_auroc(name):.3f}" for name in self.detectors)])
        note = "Held-out samples; 95 % intervals (Hanley and McNeil). " + "; ".join(
            f"{name}: {text}" for name, text in self.descriptions.items()
        )
        return Table("AUROC", ["Attack", *self.detectors], rows, note=note)

    def _verdict_table(self) -> Table:
        shares = ("Precision", "Recall", "False alarms", "Accuracy")
        rows: list[list[Cell]] = []
        for row in self.rows:
            verdicts = [row.precision, row.recall, row.false_positive_rate, row.accuracy]
            name = f"{row.detector}, {row.attack}"
            rows.append([name, row.normal, row.adversarial, *verdicts, row.mutations, row.undecided])
        return Table(
            "Verdicts",
            ["Detector, attack", "Normal", "Adversarial", *shares, "Mutations", "Undecided"],
            rows,
            percent=shares,
            note="At the detectors' own thresholds. Accuracy: mean of the shares of normal and of adversarial samples "
            "judged rightly. Mutations: mean over both kinds; undecided samples count as normal.",
        )

    def _transfer_tables(self) -> list[Table]:
        tables = []
        for detector in dict.fromkeys(row.detector for row in self.transfer):
            own = [row for row in self.transfer if row.detector == detector]
            columns = list(dict.fromkeys(attack for row in own for attack in row.auroc))
            cells = [
                [row.fitted_on]
                + [f"{row.auroc[a]:.3f} / {100 * row.accuracy[a]:.1f}%" if a in row.auroc else None for a in columns]
                for row in own
            ]
            note = "AUROC / accuracy of a logistic regression on the detector's measures, on held-out samples."
            tables.append(Table(f"{detector}: fitted on (row), tested on", ["Fitted on", *columns], cells, note=note))
        return tables

    def pictures(self) -> list[Picture]:
        """ROC curves and score histograms."""
        pictures = []
        if self.curves:
            pictures.append(Picture("roc", "ROC curves", self._draw_curves, "Held-out samples, one panel an attack."))
        if self.scores:
            caption = "The outermost percent of the scores at either end stands at the edge."
            pictures.append(Picture("scores", "Scores", self._draw_scores, caption))
        return pictures

    def _draw_curves(self) -> "Figure":
        return roc_curves(self.curves)

    def _draw_scores(self) -> "Figure":
        return score_histograms(self.scores)

    def as_dict(self) -> dict:
        """Rows, transfer and curves; of the scores their quartiles."""
        derived = ("precision", "recall", "false_positive_rate", "accuracy")
        return {
            "rows": [with_shares(row, *derived) for row in self.rows],
            "descriptions": dict(self.descriptions),
            "attack_descriptions": dict(self.attack_descriptions),
            "transfer": [asdict(row) for row in self.transfer],
            "curves": {a: {d: [list(p) for p in points] for d, points in e.items()} for a, e in self.curves.items()},
            "score_quantiles": {d: {k: _quantiles(v) for k, v in kinds.items()} for d, kinds in self.scores.items()},
        }


def _quantiles(values: Sequence[float]) -> list[float]:
    """Minimum, quartiles and maximum; empty for no value."""
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)] if ordered else []


STYLES = ("-", "--", ":", "-.")
PANELS_IN_A_ROW = 2


@in_house_style
def roc_curves(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """One panel an attack, one line a detector: attack to detector to points (false, true positive rate)."""
    columns = min(PANELS_IN_A_ROW, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(WIDTH, 2.5 * rows + 0.6))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    lines = {}
    for (attack, detectors), panel in zip(curves.items(), panels, strict=False):
        panel.plot([0, 1], [0, 1], color=EDGE, lw=0.8)
        for i, (name, points) in enumerate(detectors.items()):
            look = {"color": COLOURS[i % len(COLOURS)], "ls": STYLES[i % len(STYLES)]}
            (lines[name],) = panel.plot(*zip(*points, strict=True), **look)
        panel.set(title=attack, xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
        panel.set(xlabel="false positive rate", ylabel="true positive rate")
    for panel in list(panels):
        panel.set_axis_off()
    legend(figure, lines)
    return figure


@in_house_style
def score_histograms(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One panel a detector: shares of its scores on normal (filled) and adversarial samples (lines).

    Args:
        scores: detector to kind of sample to scores; the first kind is the normal one. The axis leaves out the
            outermost percent at either end.
    """
    columns = min(PANELS_IN_A_ROW, len(scores))
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.6))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    drawn = {}
    for (detector, kinds), panel in zip(scores.items(), panels, strict=False):
        every = np.concatenate([np.asarray(values, dtype=float) for values in kinds.values()])
        low, high = np.quantile(every, [0.01, 0.99])
        bins = np.linspace(low, high if high > low else low + 1, 31)
        for i, (kind, values) in enumerate(kinds.items()):
            values = np.clip(np.asarray(values, dtype=float), bins[0], bins[-1])
            weights = np.full(len(values), 1 / max(len(values), 1))
            filled = {"histtype": "stepfilled", "alpha": 0.3} if i == 0 else {"histtype": "step", "lw": 1.6}
            look = {"color": COLOURS[i % len(COLOURS)], "ls": STYLES[i % len(STYLES)] if i else "-"}
            drawn[kind] = panel.hist(values, bins, weights=weights, **filled, **look)[2][0]
        panel.set(title=detector, xlabel="score", ylabel="share of samples")
        panel.grid(visible=False, axis="x")
    for panel in list(panels):
        panel.set_axis_off()
    legend(figure, drawn)
    return figure
