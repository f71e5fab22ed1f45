"""What adversarial images of frozen sources do to a model that they were not made on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor
from torchmetrics import Metric

from lightning_adv.asking import NO_CLASS
from lightning_adv.results.attack_row import AttackRow, Reach
from lightning_adv.results.figures import in_house_style
from lightning_adv.results.result import EvaluationResult, KeyFigure, Picture, Table, listed, with_shares
from lightning_adv.results.robustness import RobustnessResult
from lightning_adv.results.shares import percent, percent_interval, wilson_interval

__all__ = ["TransferResult", "TransferTally", "TransferredAttack", "transfer_matrix"]

TOLERANCE = 0.02
"""Accuracies may differ by so much without meaning anything."""


@dataclass(frozen=True)
class TransferredAttack:
    """One attack on one source.

    Args:
        source, attack: their names.
        samples: images.
        clean_correct: right without attack.
        robust_correct: of them right on the source's adversarial images.
        deceived: images that the model has right and whose adversarial image the source has wrong.
        transferred: of them wrong at the model too.
        reach: where the attack looks; None if it is not known.
        description: every setting of the attack in one line.
    """

    source: str
    attack: str
    samples: int
    clean_correct: int
    robust_correct: int
    deceived: int
    transferred: int
    reach: Reach | None = None
    description: str = ""

    @property
    def robust_accuracy(self) -> float:
        """Share of all images that the model has right clean and under the transferred attack."""
        return self.robust_correct / self.samples

    @property
    def transfer_rate(self) -> float | None:
        """Share of the images that deceive the source which deceive the model too; None where none does."""
        return self.transferred / self.deceived if self.deceived else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the robust accuracy."""
        return wilson_interval(self.robust_correct, self.samples)


@dataclass(kw_only=True)
class TransferResult(EvaluationResult):
    """Attacks on sources against the model.

    Args:
        rows: one a pair of source and attack.
        descriptions: attack to its settings.

    Raises:
        ValueError: no row, or one whose counts contradict each other.
    """

    rows: list[TransferredAttack]
    descriptions: dict[str, str]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError(f"{self.title}: nothing was transferred")
        for row in self.rows:
            fits = 0 <= row.robust_correct <= row.clean_correct <= row.samples
            if not (fits and row.samples >= 1 and 0 <= row.transferred <= row.deceived <= row.clean_correct):
                raise ValueError(f"{row.source}, {row.attack}: the counts {asdict(row)} contradict each other")

    @property
    def worst(self) -> TransferredAttack:
        """The pair that leaves the fewest images right."""
        return min(self.rows, key=lambda row: row.robust_correct)

    def scalars(self) -> dict[str, float]:
        """``transfer/<source>/<attack>/robust_accuracy`` and ``transfer_rate``, and the lowest accuracy."""
        scalars = {"transfer/robust_accuracy": self.worst.robust_accuracy}
        for row in self.rows:
            key = f"transfer/{row.source}/{row.attack}"
            scalars[f"{key}/robust_accuracy"] = row.robust_accuracy
            if row.transfer_rate is not None:
                scalars[f"{key}/transfer_rate"] = row.transfer_rate
        return scalars

    def summary(self) -> str:
        """The strongest pair, in words."""
        fewest = self.worst.robust_correct
        equal = [f"{row.attack} crafted on {row.source}" for row in self.rows if row.robust_correct == fewest]
        verb = "leaves" if len(equal) == 1 else "leave"
        return f"{listed(equal)} {verb} {percent(self.worst.robust_accuracy)} of the images correct."

    def key_figures(self) -> list[KeyFigure]:
        """Accuracy under each transferred attack."""
        return [
            KeyFigure(
                f"transfer/{row.source}/{row.attack}/robust_accuracy",
                f"Accuracy under {row.attack} from {row.source}",
                self.descriptions[row.attack],
                row.interval,
            )
            for row in self.rows
        ]

    def tables(self) -> list[Table]:
        """One row a pair."""
        rows = [
            [f"{row.attack} from {row.source}", self.descriptions[row.attack], row.robust_accuracy,
             percent_interval(row.interval), row.transfer_rate, row.deceived]
            for row in self.rows
        ]  # fmt: skip
        clean, samples = self.rows[0].clean_correct, self.rows[0].samples
        note = (
            f"{samples} images, of which {percent(clean / samples)} are correct without attack; wrong ones count as "
            "wrong. Transfer rate: of the images that deceive the source, those that deceive this model too."
        )
        columns = ["Attack", "Settings", "Accuracy", "95% interval", "Transfer rate", "Deceive the source"]
        return [Table("Transferred attacks", columns, rows, ("Accuracy", "Transfer rate"), note)]

    def pictures(self) -> list[Picture]:
        """A heat map of transfer rates."""
        caption = "Share of the images that deceive the source (row) which deceive this model too."
        return [Picture("transfer_rates", "Transfer rates", self._draw, caption)]

    def _draw(self) -> "Figure":
        sources = list(dict.fromkeys(row.source for row in self.rows))
        attacks = list(dict.fromkeys(row.attack for row in self.rows))
        found = {(row.source, row.attack): row.transfer_rate or 0.0 for row in self.rows}
        return transfer_matrix({"": [[found[s, a] for a in attacks] for s in sources]}, sources, attacks)

    def warnings_beside(self, other: EvaluationResult) -> list[str]:
        """Attacks on the model itself that a transferred one of no larger eps surpasses: gradients are masked."""
        if not isinstance(other, RobustnessResult):
            return []
        return [
            f"{row.attack} crafted on {row.source} leaves {row.robust_accuracy:.1%} of the images correct, "
            f"{own.name} on the model itself {own.robust_accuracy:.1%}: its gradients are masked, and its "
            "robust accuracy is an upper bound"
            for row in self.rows
            for own in other.attacks
            if _comparable(row, own) and row.robust_accuracy < own.robust_accuracy - TOLERANCE
        ]

    def as_dict(self) -> dict:
        """Rows with their shares."""
        rows = [with_shares(row, "robust_accuracy", "transfer_rate", "interval") for row in self.rows]
        return {"descriptions": dict(self.descriptions), "rows": rows}


def _comparable(row: TransferredAttack, own: AttackRow) -> bool:
    """Whether the attack on the model itself is the same one, or follows the gradient to all places of this one."""
    same = row.description == own.description
    return same or (row.reach is not None and any(each.holds(row.reach) for each in own.follows))


class TransferTally(Metric):
    """Images that a model had right, that a source got wrong under attack, and what the model made of these.

    ``compute`` gives six counts: all images; right clean; right clean and right attacked; right clean and the source
    deceived; of the last those that deceive the model too; images whose logits were NaN, clean or attacked.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(6, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, label: Tensor, clean: Tensor, attacked: Tensor, deceived: Tensor) -> None:
        """Add a batch.

        Args:
            label: [N].
            clean, attacked: [N] classes that the model says of the image and of the source's adversarial one,
                ``NO_CLASS`` for NaN.
            deceived: [N] bool, whether the source is wrong on its adversarial image.
        """
        right, still = clean == label, attacked == label
        both = right & deceived
        nothing = (clean == NO_CLASS) | (attacked == NO_CLASS)
        kinds = (torch.ones_like(right), right, right & still, both, both & ~still, nothing)
        self.counts += torch.stack([kind.sum() for kind in kinds]).to(self.counts.device)

    def compute(self) -> Tensor:
        """The six counts over all ranks."""
        return self.counts


PANELS_IN_A_ROW = 2


@in_house_style
def transfer_matrix(
    matrices: Mapping[str, Sequence[Sequence[float]]], sources: Sequence[str], targets: Sequence[str]
) -> Figure:
    """One panel a matrix: the share of a source's adversarial images (row) that a target (column) gets wrong.

    Args:
        matrices: title to rows of shares in [0, 1].
        sources: names of the rows.
        targets: names of the columns.

    Raises:
        ValueError: a matrix of another shape.
    """
    for title, rows in matrices.items():
        if len(rows) != len(sources) or any(len(row) != len(targets) for row in rows):
            raise ValueError(f"matrix {title!r} is not {len(sources)} x {len(targets)}")
    columns = min(PANELS_IN_A_ROW, len(matrices))
    bands = -(-len(matrices) // columns)
    size = (columns * (0.62 * len(targets) + 0.9) + 0.8, bands * (0.5 * len(sources) + 1.0) + 0.3)
    figure = Figure(figsize=size)
    panels = list(figure.subplots(bands, columns, squeeze=False).flat)
    for panel, (title, rows) in zip(panels, matrices.items(), strict=False):
        image = panel.imshow(rows, "cividis", vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(rows):
            for j, share in enumerate(row):
                colour = "black" if share > 0.55 else "white"
                panel.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
        panel.set_xticks(range(len(targets)), targets, rotation=35, ha="right")
        panel.set_yticks(range(len(sources)), sources)
        panel.set(title=title)
        panel.tick_params(length=0)
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
    for panel in panels[len(matrices) :]:
        panel.set_axis_off()
    panels[0].set(ylabel="crafted on")
    scale = figure.colorbar(image, ax=panels, format=PercentFormatter(1.0, decimals=0), pad=0.02)
    scale.set_label("wrong at the target")
    scale.outline.set_visible(False)
    return figure
