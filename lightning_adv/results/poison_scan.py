"""What scans say of the images that a model was trained on, beside what is known of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_adv.metrics.detection import auroc
from lightning_adv.pixels import visible
from lightning_adv.results.detection import score_histograms
from lightning_adv.results.figures import INK, WRONG, class_name, history_curves, in_house_style
from lightning_adv.results.result import Answer, Cell, EvaluationResult, KeyFigure, Picture, Table, listed, with_shares
from lightning_adv.results.shares import percent, percent_interval, wilson_interval
from lightning_adv.scans import ScanReport

__all__ = ["PoisonScanResult", "ScanRow", "suspect_grid"]

REMOVED = 1.5
"""What the papers remove of the images, in numbers of those that are poisoned, which only an oracle knows."""

CANNOT_SEE = (
    "Scans see poisoned images whose features differ from those of their class; attacks that are made to differ in "
    "none (Adaptive-Blend, cover images) they may miss, and a model that hardly learnt the trigger shows nothing."
)


@dataclass(frozen=True)
class ScanRow:
    """Counts of one scan.

    Args:
        scan: its name.
        images, suspects: scanned, and of them suspected.
        budget: images of highest score that somebody looks at.
        poisoned, clean, cover: images that are poisoned, neither poisoned nor cover, cover; None where nobody knows.
        found, false_alarms, cover_suspects: of them suspected.
        in_budget: poisoned ones within the budget.
        oracle: images of highest score that an oracle removes.
        oracle_found, oracle_false_alarms: poisoned ones and clean ones among them.
        auroc: of the score, poisoned images against clean ones.
    """

    scan: str
    images: int
    suspects: int
    budget: int
    poisoned: int | None = None
    clean: int | None = None
    cover: int | None = None
    found: int | None = None
    false_alarms: int | None = None
    cover_suspects: int | None = None
    in_budget: int | None = None
    oracle: int | None = None
    oracle_found: int | None = None
    oracle_false_alarms: int | None = None
    auroc: float | None = None

    @property
    def recall(self) -> float | None:
        """Share of the poisoned images that are suspects."""
        return _share(self.found, self.poisoned)

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the clean images that are suspects; cover images count as neither."""
        return _share(self.false_alarms, self.clean)

    @property
    def precision_at_budget(self) -> float | None:
        """Share of the images within the budget that are poisoned."""
        return _share(self.in_budget, self.budget) if self.poisoned else None

    @property
    def shares(self) -> dict[str, float | None]:
        """Recall, false alarms and precision by name."""
        names = {"recall": self.recall, "false_alarm_rate": self.false_alarm_rate}
        return names | {"precision_at_budget": self.precision_at_budget}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals (Wilson) of the shares that there are."""
        counts = {"recall": (self.found, self.poisoned), "false_alarm_rate": (self.false_alarms, self.clean)}
        counts |= {"precision_at_budget": (self.in_budget, self.budget)} if self.poisoned else {}
        return {name: wilson_interval(found, total) for name, (found, total) in counts.items() if total}


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if whole else None


@dataclass(kw_only=True)
class PoisonScanResult(EvaluationResult):
    """Reports of named scans on one training set.

    Args:
        reports: name of the scan to its report.
        class_names: names of the K classes.
        budget: share of the images that somebody looks at.
        poisoned, cover: numbers of the poisoned images and of the cover images; None where nobody knows.
        shown: name of the scan to its images of highest score [n, C, H, W].
        history: scalars of earlier epochs and of this one, (epoch, value) under the key of the logger, for the curves.
        key_prefix: what stands between the stage and the scan's name in those keys.
        success, indices: name to points (epoch, value) of what other evaluations have measured over the epochs: attack
            success rates, and anomaly indices of the class that the backdoor leads to.
    """

    reports: dict[str, ScanReport]
    class_names: list[str]
    budget: float
    poisoned: Tensor | None = None
    cover: Tensor | None = None
    shown: dict[str, Tensor] = field(default_factory=dict)
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    key_prefix: str = ""
    success: dict[str, list[list[float]]] = field(default_factory=dict)
    indices: dict[str, list[list[float]]] = field(default_factory=dict)

    question = "Are its training images poisoned?"

    @cached_property
    def rows(self) -> list[ScanRow]:
        """Counts of every scan."""
        return [self._row(name, report) for name, report in self.reports.items()]

    def _row(self, name: str, report: ScanReport) -> ScanRow:
        images, suspects = len(report.index), int(report.suspect.sum())
        budget = math.ceil(self.budget * images)
        if self.poisoned is None:
            return ScanRow(name, images, suspects, budget)
        poisoned, cover, clean = self._kinds(report)
        oracle = min(images, math.ceil(REMOVED * int(poisoned.sum())))
        removed = report.worst(oracle)
        both = bool(poisoned.any() and clean.any())
        return ScanRow(
            name,
            images,
            suspects,
            budget,
            *(int(each.sum()) for each in (poisoned, clean, cover)),
            *(int((each & report.suspect).sum()) for each in (poisoned, clean, cover)),
            in_budget=int(poisoned[report.worst(budget)].sum()),
            oracle=oracle,
            oracle_found=int(poisoned[removed].sum()),
            oracle_false_alarms=int(clean[removed].sum()),
            auroc=auroc(report.score[clean], report.score[poisoned]) if both else None,
        )

    def _kinds(self, report: ScanReport) -> tuple[Tensor, Tensor, Tensor]:
        """Which images are poisoned, cover, and neither: bool [N] each."""
        poisoned, cover = torch.isin(report.index, self.poisoned), torch.isin(report.index, self.cover)
        return poisoned, cover, ~poisoned & ~cover

    def scalars(self) -> dict[str, float]:
        """``<scan>/suspect_share``, ``flagged_classes``, and what is known against a plan."""
        scalars: dict[str, float] = {}
        for row in self.rows:
            flagged = self.reports[row.scan].flagged
            values = {
                "suspect_share": row.suspects / row.images,
                "flagged_classes": None if flagged is None else len(flagged),
                "auroc": row.auroc,
                **row.shares,
            }
            scalars |= {f"{row.scan}/{name}": value for name, value in values.items() if value is not None}
        return scalars

    def summary(self) -> str:
        """What each scan suspects and, where it is known, how much of it is poisoned, in words."""
        return " ".join(self._said(row) for row in self.rows)

    def answer(self) -> Answer:
        """Whether any scan flags a class."""
        verdicts = [report.flagged for report in self.reports.values()]
        known = [each for each in verdicts if each is not None]
        short = "Suspected" if any(known) else "None found" if known else "No verdict"
        return Answer(self.question, short, f"{self.summary()} {CANNOT_SEE}")

    def _said(self, row: ScanRow) -> str:
        flagged = self.reports[row.scan].flagged
        classes = listed([self._name(label) for label in flagged]) if flagged else "no class"
        verdict = "has no verdict on a class" if flagged is None else f"flags {classes}"
        text = f"{row.scan} {verdict} and suspects {row.suspects:,} of {row.images:,} images"
        if row.recall is None:
            return f"{text}."
        false = f"{percent(row.false_alarm_rate)} of the clean ones" if row.clean else "no clean image was there"
        return f"{text}: {percent(row.recall)} of the poisoned ones and {false}."

    def _name(self, label: int) -> str:
        known = label < len(self.class_names) and self.class_names[label] != str(label)
        return f"class {label} ({self.class_names[label]})" if known else f"class {label}"

    def key_figures(self) -> list[KeyFigure]:
        """Recall and false alarms of every scan, the best recall as a card."""
        labels = {"recall": "Poisoned images found", "false_alarm_rate": "Clean images suspected"}
        best = max(self.rows, key=lambda row: (row.recall or 0, -(row.false_alarm_rate or 0)))
        return [
            KeyFigure(
                f"{row.scan}/{name}", f"{text}, {row.scan}", self.reports[row.scan].scan, row.intervals[name],
                card=row is best,
            )
            for row in self.rows
            for name, text in labels.items()
            if name in row.intervals
        ]  # fmt: skip

    def tables(self) -> list[Table]:
        """What is suspected, what the scores are worth, and the classes of every scan."""
        return [
            self._suspect_table(),
            *self._score_tables(),
            *(self._class_table(*each) for each in self.reports.items()),
        ]

    def _suspect_table(self) -> Table:
        known = self.poisoned is not None
        shares = ("Recall", "False alarms") if known else ()
        rows: list[list[Cell]] = []
        for row in self.rows:
            flagged = self.reports[row.scan].flagged
            named = "no verdict" if flagged is None else ", ".join(map(str, flagged)) or "none"
            found: list[Cell] = []
            for name in ("recall", "false_alarm_rate") if known else ():
                found += [row.shares[name], percent_interval(row.intervals.get(name))]
            rows.append([row.scan, row.suspects, named, *found])
        columns = ["Scan", "Suspects", "Flagged classes"]
        columns += [each for share in shares for each in (share, f"95%, {share.lower()}")]
        first = self.rows[0]
        kinds = (
            f"{first.poisoned:,} are poisoned, {first.cover:,} are cover images, which count neither as found nor as "
            "false alarms."
            if known
            else "Nobody has said which are poisoned."
        )
        settings = "; ".join(f"{name}: {report.scan}" for name, report in self.reports.items())
        note = f"{first.images:,} training images; {kinds} Wilson intervals. {settings}."
        return Table("Suspects", columns, rows, percent=shares, note=note)

    def _score_tables(self) -> list[Table]:
        known = [row for row in self.rows if row.poisoned]
        if not known:
            return []
        shares = ("Precision at budget", "Oracle: recall", "Oracle: false alarms")
        rows: list[list[Cell]] = [
            [
                row.scan,
                row.auroc,
                row.precision_at_budget,
                percent_interval(row.intervals["precision_at_budget"]),
                row.oracle_found / row.poisoned,
                _share(row.oracle_false_alarms, row.clean),
            ]
            for row in known
        ]
        note = (
            f"Budget: the {known[0].budget:,} images of highest score. The oracle knows how many images are "
            f"poisoned and removes {REMOVED} times as many, {known[0].oracle:,}, as papers do; no defender knows it."
        )
        columns = ["Scan", "AUROC", shares[0], "95%, precision", *shares[1:]]
        return [Table("What the scores are worth", columns, rows, percent=shares, note=note)]

    def _class_table(self, name: str, report: ScanReport) -> Table:
        poisoned = None if self.poisoned is None else report.label[torch.isin(report.index, self.poisoned)]
        rows: list[list[Cell]] = []
        for each in sorted(report.classes, key=lambda each: -each.statistic if each.statistic == each.statistic else 1):
            verdict = {None: "no verdict", True: "yes", False: "no"}[each.flagged]
            known = [] if poisoned is None else [int((poisoned == each.label).sum())]
            value = each.statistic if math.isfinite(each.statistic) else None
            rows.append([self._name(each.label), each.images, each.suspects, *known, value, verdict])
        columns = ["Class", "Images", "Suspects", *([] if poisoned is None else ["Poisoned"])]
        return Table(f"Classes by {name}", [*columns, report.statistic.capitalize(), "Flagged"], rows)

    def pictures(self) -> list[Picture]:
        """Images of highest score, scores by kind, recall and false alarms over the epochs."""
        pictures = []
        for name, report in self.reports.items():
            images = self.shown.get(name)
            if images is None or not len(images):
                continue
            worst = report.worst(len(images))
            kinds = None if self.poisoned is None else torch.isin(report.index[worst], self.poisoned)
            draw = partial(suspect_grid, images, report.label[worst], report.score[worst], kinds, self.class_names)
            title = f"Most suspicious images by {name}"
            known = "" if kinds is None else f" {int(kinds.sum())} of these {len(kinds)} are poisoned (orange)."
            caption = f"Label and score above each image.{known}"
            pictures.append(Picture(f"{name}_suspects", title, draw, caption, alt=f"{title}. {caption}"))
        if any(row.poisoned and row.clean for row in self.rows):
            draw = partial(score_histograms, {row.scan: self._scores(row.scan) for row in self.rows})
            pictures.append(Picture("scores", "Scores of clean and poisoned images", draw))
        courses = self._courses()
        if max(map(len, courses.values()), default=0) > 1:
            courses |= self.success
            draw = partial(history_curves, courses, self.indices)
            caption = "When the backdoor is learnt, and when it shows." if self.success else ""
            pictures.append(Picture("over_epochs", "Over the epochs", draw, caption))
        return pictures

    def _scores(self, name: str) -> dict[str, list[float]]:
        report = self.reports[name]
        poisoned, cover, clean = self._kinds(report)
        kinds = {"clean": clean, "poisoned": poisoned, "cover": cover}
        return {kind: report.score[each].tolist() for kind, each in kinds.items() if each.any()}

    def _courses(self) -> dict[str, list[tuple[int, float]]]:
        """Name of a share to points (epoch, share)."""
        names = {"recall": "recall", "false_alarm_rate": "false alarms"}
        keys = {f"{scan}, {text}": f"{self.stage}/{self.key_prefix}{scan}/{name}"
                for scan in self.reports for name, text in names.items()}  # fmt: skip
        return {
            text: [(int(epoch), value) for epoch, value in self.history[key]]
            for text, key in keys.items()
            if key in self.history
        }

    def as_dict(self) -> dict:
        """Counts, classes and the images of highest score; all scores are in ``scan_NAME.safetensors``."""
        return {
            "class_names": list(self.class_names),
            "budget": self.budget,
            "rows": [with_shares(row, *row.shares, "intervals") for row in self.rows],
            "scans": {name: self._scan(name, report) for name, report in self.reports.items()},
        }

    def _scan(self, name: str, report: ScanReport) -> dict:
        worst = report.worst(len(self.shown.get(name, ())))
        return {
            "settings": report.scan,
            "statistic": report.statistic,
            "flagged": report.flagged,
            "classes": [dict(vars(each)) for each in report.classes],
            "worst": [
                {"number": number, "label": label, "score": score}
                for number, label, score in zip(
                    *(each[worst].tolist() for each in (report.index, report.label, report.score)), strict=True
                )
            ],
        }


@in_house_style
def suspect_grid(
    images: Tensor, labels: Tensor, scores: Tensor, poisoned: Tensor | None, class_names: Sequence[str]
) -> Figure:
    """A row of images with label and score above each; those that are poisoned in orange.

    Args:
        images: [n, C, H, W] in [0, 1], n >= 1.
        labels, scores: [n].
        poisoned: bool [n]; None where nobody knows.
        class_names: of the K classes.
    """
    pixels = visible(images).detach().float().cpu().permute(0, 2, 3, 1).clamp(0, 1).numpy()
    figure = Figure(figsize=(0.3 + 0.95 * len(pixels), 1.6))
    for i, (panel, image) in enumerate(zip(figure.subplots(1, len(pixels), squeeze=False)[0], pixels, strict=True)):
        panel.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, "gray", vmin=0, vmax=1)
        panel.images[0].set_interpolation("nearest")
        panel.set_axis_off()
        text = f"{class_name(int(labels[i]), class_names, 10)}\n{float(scores[i]):.3g}"
        panel.set_title(text, color=WRONG if poisoned is not None and poisoned[i] else INK, fontsize=8, pad=3)
    return figure
