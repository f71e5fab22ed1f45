"""This run's figures beside those of earlier runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_adv.reports.storage import ResultsDocument, SectionDocument

__all__ = ["ComparedFigure", "OtherFigure", "compare"]


@dataclass(frozen=True)
class OtherFigure:
    """The same figure of a baseline.

    Args:
        baseline: name of the baseline.
        share: its value in [0, 1], None where that run has no such figure.
        interval: its 95 % interval, None where it has none.
        gain: this run's value minus the baseline's, None where either is missing or the two do not compare.
        other_basis: what the baseline measured with, where that differs from this run; else empty.
    """

    baseline: str
    share: float | None
    interval: tuple[float, float] | None
    gain: float | None
    other_basis: str = ""


@dataclass(frozen=True)
class ComparedFigure:
    """A key figure of this run with its counterparts; ``where`` names stage and epoch."""

    label: str
    basis: str
    where: str
    share: float | None
    interval: tuple[float, float] | None
    card: bool
    others: list[OtherFigure]


def compare(
    sections: Sequence[SectionDocument], baselines: Mapping[str, ResultsDocument]
) -> list[list[ComparedFigure]]:
    """Key figures of every section, each with the same figure of every baseline.

    A baseline's section corresponds if kind and stage agree and its title is the same, or is the only one there;
    of several the latest epoch counts.
    """
    compared = []
    for section in sections:
        partners = {name: _partner(section, document["sections"]) for name, document in baselines.items()}
        compared.append([_compared(figure, section, partners) for figure in section["key_figures"]])
    return compared


def _partner(section: SectionDocument, candidates: Sequence[SectionDocument]) -> SectionDocument | None:
    alike = [c for c in candidates if (c["kind"], c["stage"]) == (section["kind"], section["stage"])]
    named = [c for c in alike if c["title"] == section["title"]]
    if not named and len({c["title"] for c in alike}) > 1:
        return None
    return max(named or alike, key=lambda candidate: candidate["epoch"], default=None)


def _compared(
    figure: Mapping, section: SectionDocument, partners: Mapping[str, SectionDocument | None]
) -> ComparedFigure:
    share = section["scalars"].get(figure["scalar"])
    return ComparedFigure(
        label=figure["label"],
        basis=figure["basis"],
        where=section["stage"] + (f", epoch {section['epoch']}" if section["epoch"] else ""),
        share=share,
        interval=figure["interval"],
        card=figure["card"],
        others=[_other(name, partner, figure, share) for name, partner in partners.items()],
    )


def _other(name: str, partner: SectionDocument | None, figure: Mapping, share: float | None) -> OtherFigure:
    theirs = {} if partner is None else {f["scalar"]: f for f in partner["key_figures"]}
    if figure["scalar"] not in theirs:
        return OtherFigure(name, None, None, None)
    other = theirs[figure["scalar"]]
    value = partner["scalars"].get(figure["scalar"])
    same = other["basis"] == figure["basis"]
    gain = share - value if same and share is not None and value is not None else None
    return OtherFigure(name, value, other.get("interval"), gain, "" if same else other["basis"])
