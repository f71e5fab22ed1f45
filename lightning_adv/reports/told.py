"""What the ``results.json`` of any run tells, as objects: every field that is used is checked."""

from dataclasses import dataclass, fields
from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.models import Statistics
from lightning_adv.reports.run import Machine, RunInfo
from lightning_adv.reports.storage import ResultsDocument, SectionDocument, check_fields, read_results

__all__ = ["AttackedImages", "MetAttack", "attacked_images", "finished_run", "run_of"]

IMAGES = {"samples": int, "clean_correct": int, "worst_case_correct": int, "draws": int | None, "attacks": list}
ATTACK = {"name": str, "description": str, "norm": str, "eps": int | float | None, "robust_correct": int}
ATTACK |= {"samples": int, "minimal_norm": bool | None}
MOST = 10**9
"""Above any number of images and any radius there is."""


@dataclass(frozen=True)
class MetAttack:
    """An attack with a budget, and the images that are classified correctly under it; see ``AttackRow``."""

    name: str
    description: str
    norm: str
    eps: float | None
    robust_correct: int


@dataclass(frozen=True)
class AttackedImages:
    """The counts of an evaluation under attack; see ``RobustnessResult``."""

    samples: int
    clean_correct: int
    worst_case_correct: int
    draws: int
    attacks: list[MetAttack]


def run_of(document: ResultsDocument) -> RunInfo:
    """Provenance of a run whose document ``read_results`` gave; what an older version did not tell is missing."""
    run = {name: value for name, value in document["run"].items() if value is not None}
    known = {each.name for each in fields(RunInfo)} & run.keys()
    rebuilt: dict[str, object] = {
        "machine": Machine(**{each.name: run["machine"].get(each.name) for each in fields(Machine)})
    }
    if said := run.get("normalisation"):
        figures = {role: tuple(said[role]) for role in ("mean", "std")}
        rebuilt["normalisation"] = Statistics(origin=said["origin"], assumed=said["assumed"], **figures)
    return RunInfo(
        **dict.fromkeys(("seed", "commit", "dirty", "finished")) | {name: run[name] for name in known} | rebuilt
    )


def finished_run(folder: Path) -> RunInfo | None:
    """Provenance of the finished run whose report is in a folder, None if there is none."""
    if not (folder / "results.json").is_file():
        return None
    try:
        info = run_of(read_results(folder))
    except InputError:  # another version's
        return None
    return info if info.finished else None


def attacked_images(section: SectionDocument, where: str) -> AttackedImages:
    """The counts in a section of kind ``RobustnessResult``; minimal-norm attacks are left out.

    Args:
        section: as ``read_results`` gives it.
        where: names it in errors.

    Raises:
        InputError: a field of the wrong type, or counts that contradict each other.
    """
    data = section["data"]
    check_fields(data, IMAGES, f"{where}, data")
    for number, row in enumerate(data["attacks"]):
        check_fields(row, ATTACK, f"{where}, attacks[{number}]")
        if row["eps"] is not None and not 0 <= row["eps"] < MOST:
            raise InputError(f"{where}: eps {row['eps']} of an attack is no radius; the file was changed or damaged")
    met = [row for row in data["attacks"] if not row.get("minimal_norm")]
    counts = [data["clean_correct"], data["worst_case_correct"], *(row["robust_correct"] for row in met)]
    samples = {data["samples"], *(row["samples"] for row in met)}
    if len(samples) > 1 or not 0 < data["samples"] < MOST or not all(0 <= each <= data["samples"] for each in counts):
        raise InputError(f"{where}: its counts of images contradict each other; the file was changed or damaged")
    attacks = [MetAttack(**{each.name: row[each.name] for each in fields(MetAttack)}) for row in met]
    return AttackedImages(*(data[name] for name in ("samples", "clean_correct", "worst_case_correct")),
                          data.get("draws") or 1, attacks)  # fmt: skip
