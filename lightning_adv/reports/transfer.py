"""What adversarial images of frozen sources do to a model that they were not made on."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lightning_adv.reports.results import EvaluationResult, KeyFigure, Picture, Table
from lightning_adv.reports.shares import percent, percent_interval, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TransferResult", "TransferredAttack"]


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
    """

    source: str
    attack: str
    samples: int
    clean_correct: int
    robust_correct: int
    deceived: int
    transferred: int

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
        row = self.worst
        return f"{row.attack} crafted on {row.source} leaves {percent(row.robust_accuracy)} of the images correct."

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
        from lightning_adv.reports.transfer_figures import transfer_matrix

        sources = list(dict.fromkeys(row.source for row in self.rows))
        attacks = list(dict.fromkeys(row.attack for row in self.rows))
        found = {(row.source, row.attack): row.transfer_rate or 0.0 for row in self.rows}
        return transfer_matrix({"": [[found[s, a] for a in attacks] for s in sources]}, sources, attacks)

    def as_dict(self) -> dict:
        """Rows with their shares."""
        derived = ("robust_accuracy", "transfer_rate")
        return {
            "descriptions": dict(self.descriptions),
            "rows": [
                asdict(row) | {name: getattr(row, name) for name in derived} | {"interval": list(row.interval)}
                for row in self.rows
            ],
        }
