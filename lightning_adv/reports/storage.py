"""``results.json``: its layout, its text, and reading it back.

The layout is documented in docs/results_schema.md.
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import NoReturn, TypedDict, cast

from lightning_adv.errors import InputError
from lightning_adv.reports.run import RunInfo
from lightning_adv.results.result import EvaluationResult

__all__ = ["SCHEMA", "BaselineDocument", "ResultsDocument", "SectionDocument", "check_fields", "read_results"]

SCHEMA = 1
Histories = Mapping[str, Sequence[tuple[int, float]]]


class SectionDocument(TypedDict):
    """One evaluation's result as plain data."""

    kind: str
    title: str
    stage: str
    epoch: int
    scalars: dict[str, float | None]
    key_figures: list[dict]
    tables: list[dict]
    pictures: list[str]
    warnings: list[str]
    data: dict


class BaselineDocument(TypedDict):
    """What a report keeps of a run that it was compared with."""

    path: str
    title: str
    commit: str | None
    sections: list[dict]


class ResultsDocument(TypedDict):
    """A whole ``results.json``."""

    schema: int
    title: str
    run: dict
    sections: list[SectionDocument]
    history: dict[str, list[list]]
    baselines: dict[str, BaselineDocument]


TOP_LEVEL = {"title": str, "run": dict, "sections": list, "history": dict, "baselines": dict}
SECTION = {
    "kind": str,
    "title": str,
    "stage": str,
    "epoch": int,
    "scalars": dict,
    "key_figures": list,
    "warnings": list,
}
SECTION |= {"tables": list, "pictures": list, "data": dict}
RUN = {"command": str, "seed": int | None, "commit": str | None, "dirty": bool | None, "versions": dict}
RUN |= {"machine": dict, "started": str, "finished": str | None, "folder": str, "ended": str | None}
RUN |= {"preparation": str | None, "normalisation": dict | None, "model": str | None, "data": str | None}
RUN |= {"parameters": int | None, "weights": dict | None, "cuts": list | None}
MACHINE = {"cpu": str, "gpus": list, "cores": int, "memory_gib": int | float | None, "system": str}
STATISTICS = {"mean": list, "std": list, "origin": str, "assumed": bool}
KEY_FIGURE = {"scalar": str, "label": str, "basis": str, "card": bool}


def section_document(
    result: EvaluationResult, pictures: Sequence[str], warnings: Sequence[str] | None = None
) -> SectionDocument:
    """One section; ``pictures`` are the names of its files under ``pictures/``, ``warnings`` by default its own."""
    return {
        "kind": type(result).__name__,
        "title": result.title,
        "stage": result.stage,
        "epoch": result.epoch,
        "scalars": dict(result.scalars()),
        "key_figures": [asdict(figure) for figure in result.key_figures()],
        "tables": [asdict(table) for table in result.tables()],
        "pictures": list(pictures),
        "warnings": list(result.warnings if warnings is None else warnings),
        "data": result.as_dict(),
    }


def results_document(
    title: str,
    run: RunInfo,
    sections: Sequence[SectionDocument],
    histories: Histories,
    baselines: Mapping[str, tuple[Path, ResultsDocument]],
) -> ResultsDocument:
    """The whole file; of every baseline the scalars are kept, so that the comparison outlives the other file."""
    return {
        "schema": SCHEMA,
        "title": title,
        "run": run.as_dict(),
        "sections": list(sections),
        "history": {name: [list(point) for point in points] for name, points in histories.items()},
        "baselines": {name: _baseline_document(path, other) for name, (path, other) in baselines.items()},
    }


def _baseline_document(path: Path, document: ResultsDocument) -> BaselineDocument:
    kept = ("kind", "title", "stage", "epoch", "scalars", "key_figures")
    return {
        "path": str(path),
        "title": document["title"],
        "commit": document["run"].get("commit"),
        "sections": [{key: section[key] for key in kept} for section in document["sections"]],
    }


def as_json(document: Mapping) -> bytes:
    """UTF-8 JSON; numbers that are not finite become null, which JSON can hold."""
    return json.dumps(_finite(document), indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_results(path: str | os.PathLike[str]) -> ResultsDocument:
    """A ``results.json`` that a report wrote, checked.

    Args:
        path: the file, or the report folder that holds it.

    Raises:
        InputError: no such file, not JSON, not a report's results, or of another schema.
    """
    file = Path(path) / "results.json" if Path(path).is_dir() else Path(path)
    try:
        document = json.loads(file.read_bytes(), parse_constant=_refuse_constant)
        json.dumps(document, ensure_ascii=False).encode()  # half a character would not go into a page
    except OSError as error:
        raise InputError(f"cannot read results {file}: {error.strerror}; expected a report's results.json") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"results {file} are not valid JSON ({error}); write that report again") from error
    if not isinstance(document, dict) or "schema" not in document:
        raise InputError(
            f"{file} is JSON but no report's results: it has no field 'schema'; give a report's results.json"
        )
    if document["schema"] != SCHEMA:
        version = document["schema"]
        raise InputError(
            f"results {file} have schema {version!r}, this version reads {SCHEMA}; write that report again"
        )
    check_fields(document, TOP_LEVEL, f"results {file}")
    _check_run(document["run"], f"results {file}, run")
    for i, section in enumerate(document["sections"]):
        _check_section(section, f"results {file}, sections[{i}]")
    return cast(ResultsDocument, document)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_run(run: Mapping, where: str) -> None:
    check_fields(run, RUN, where)
    check_fields(run["machine"], MACHINE, f"{where}, machine")
    texts = [*run["versions"].values(), *(run.get("weights") or {}).values(), *run["machine"]["gpus"]]
    _check_texts([*texts, *(run.get("cuts") or [])], where)
    for moment in (run["started"], run.get("finished")):
        if moment is not None and not _is_moment(moment):
            raise InputError(f"{where}: {moment!r} is no time in ISO 8601 with its zone; the file was damaged")
    if (said := run.get("normalisation")) is not None:
        check_fields(said, STATISTICS, f"{where}, normalisation")
        if not all(map(_is_number, [*said["mean"], *said["std"]])):
            raise InputError(f"{where}: mean and std are not numbers; the file was changed or damaged")


def _is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold: JSON knows larger ones, which nobody can print as a share."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) <= sys.float_info.max


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _check_section(section: object, where: str) -> None:
    check_fields(section, SECTION, where)
    for name, value in section["scalars"].items():
        if value is not None and not _is_number(value):
            raise InputError(f"{where}: scalar {name!r} is {value!r}, not a number; the file was changed or damaged")
    _check_texts(section["warnings"], f"{where}, warnings")
    for i, figure in enumerate(section["key_figures"]):
        check_fields(figure, KEY_FIGURE, f"{where}, key_figures[{i}]")
        interval = figure.get("interval")
        ends = interval if isinstance(interval, list) else []
        if interval is not None and (len(ends) != 2 or not all(map(_is_number, ends))):
            raise InputError(f"{where}: interval {interval!r} is not two numbers; the file was changed or damaged")


def check_fields(value: object, fields: Mapping[str, type | UnionType], where: str) -> None:
    """Refuse what is no object with these fields; one that may be None may be missing.

    Args:
        value: from a file.
        fields: name to type.
        where: names the place in the error.

    Raises:
        InputError: the first field that is not as it should be.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object with {', '.join(fields)}; the file was changed or damaged")
    for name, kind in fields.items():
        if not isinstance(value.get(name), kind):
            raise InputError(f"{where}: field {name!r} is missing or not a {_said(kind)}; the file was damaged")


def _check_texts(values: Sequence[object], where: str) -> None:
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{where}: expected texts, got {str(values)[:60]}; the file was changed or damaged")


def _said(kind: type | UnionType) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
