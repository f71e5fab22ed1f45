"""The report: a folder with ``index.html``, ``results.json`` and ``pictures/``, or one file, that needs no network."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_adv.files import replace_atomically
from lightning_adv.reports.album import Album, ShownPicture, embedded
from lightning_adv.reports.answers import answers
from lightning_adv.reports.comparison import ComparedFigure, compare
from lightning_adv.reports.robustbench import Submission, benchmark_entries
from lightning_adv.reports.run import RunInfo
from lightning_adv.reports.storage import (
    Histories,
    as_json,
    read_results,
    results_document,
    section_document,
)
from lightning_adv.results.figures import history_curves
from lightning_adv.results.result import Cell, EvaluationResult, Picture, Table, joint_warnings
from lightning_adv.results.shares import percent, percent_interval

__all__ = ["page_environment", "write_report"]

LONG_TABLE = 12  # rows; a longer table is folded
SHARE_NAMES = ("accuracy", "rate", "share")  # endings of metrics that lie in [0, 1]
MOST_CURVES = 12
CURVE_NAMES = ("accuracy", "attack_success_rate")  # endings of those worth a curve


@dataclass(frozen=True)
class Section:
    """A result with what the page needs of it."""

    anchor: str
    result: EvaluationResult
    tables: list[Table]
    pictures: list[ShownPicture]
    warnings: list[str]


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    sections: Sequence[EvaluationResult],
    histories: Histories,
    baselines: Mapping[str, str | os.PathLike[str]],
    run: RunInfo,
    config_yaml: str,
    unasked: str | None = None,
    submission: Submission | None = None,
    self_contained: bool = False,
) -> Path:
    """Writes page, pictures, ``results.json`` and entries of RobustBench, replacing an earlier report in the folder.

    Args:
        folder: where to write; made if missing.
        title: heading of the page.
        sections: results in the order of reading, normally the last of every evaluation.
        histories: metric name to its points (epoch, value).
        baselines: name of another run to its ``results.json`` (or report folder), compared figure by figure.
        run: provenance.
        config_yaml: the resolved configuration.
        unasked: of an audit, why a question of its three was not asked where no section answers it; the page then
            begins with questions and answers.
        submission: what the user says of the model, for ``model_info.json``, which an evaluation by AutoAttack leaves.
        self_contained: put pictures and data into the page, too, so that it can be sent as one file.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: a baseline cannot be read, or the folder cannot be written.
    """
    folder = Path(folder)
    album = Album(folder, self_contained)
    others = {name: (Path(path), read_results(path)) for name, path in baselines.items()}
    shown = [
        _section(album, number, result, warnings)
        for number, (result, warnings) in enumerate(zip(sections, joint_warnings(sections), strict=True), start=1)
    ]
    files = [[file for picture in section.pictures for file in picture.files] for section in shown]
    documents = [section_document(s.result, names, s.warnings) for s, names in zip(shown, files, strict=True)]
    document = results_document(title, run, documents, histories, others)
    compared = compare(documents, {name: other for name, (_, other) in others.items()})
    entries = benchmark_entries(sections, run, submission)
    infos = {f"model_info{f'_{n}' if n > 1 else ''}.json": entry for n, entry in enumerate(entries, start=1)}
    beside = {name: as_json(entry.fields) for name, entry in infos.items()} | {"results.json": as_json(document)}
    page = page_environment().get_template("index.html.j2")
    text = page.render(
        title=title,
        sections=shown,
        answers=[] if unasked is None else answers(sections, unasked, run.cuts),
        sentences=[sentence for sentence in (result.summary() for result in sections) if sentence],
        comparisons=[
            (section, met) for section, figures in zip(shown, compared, strict=True) if (met := _met(figures))
        ],
        cards=[figure for figures in compared for figure in figures if figure.card],
        baseline_documents={name: other for name, (_, other) in others.items()},
        history=_history(album, histories),
        history_table=_history_table(histories),
        infos=infos,
        links={name: embedded(data, "application/json") if self_contained else name for name, data in beside.items()},
        run=run,
        config_yaml=config_yaml,
        long_table=LONG_TABLE,
    )
    album.write()
    for file, content in beside.items():
        replace_atomically(folder / file, content)
    for stale in {each.name for each in folder.glob("model_info*.json")} - infos.keys():
        (folder / stale).unlink()  # of an earlier report
    replace_atomically(folder / "index.html", text.encode())
    album.remove_old()
    return folder / "index.html"


def _met(figures: Sequence[ComparedFigure]) -> list[ComparedFigure]:
    """Those that a baseline has, too."""
    return [figure for figure in figures if any(other.share is not None for other in figure.others)]


def _section(album: Album, number: int, result: EvaluationResult, warnings: list[str]) -> Section:
    pictures = [album.add(f"{number}-{i}", each) for i, each in enumerate(result.pictures(), start=1)]
    return Section(f"section-{number}", result, result.tables(), pictures, warnings)


def _history(album: Album, histories: Histories) -> ShownPicture | None:
    """One picture of all accuracies; the other metrics are in the table and in ``results.json``."""
    shares = {name: points for name, points in histories.items() if points and name.endswith(CURVE_NAMES)}
    if not shares:
        return None
    # Beyond a dozen lines nobody can tell them apart: keep those of the fewest levels, the headlines.
    kept = sorted(shares, key=lambda name: name.count("/"))[:MOST_CURVES]
    shares = {name: points for name, points in shares.items() if name in kept}
    return album.add("0", Picture("history", "Accuracy over epochs", lambda: history_curves(shares)))


def _history_table(histories: Histories) -> Table | None:
    epochs = sorted({epoch for points in histories.values() for epoch, _ in points})
    if not epochs:
        return None
    values = {name: dict(points) for name, points in histories.items()}
    rows = [[epoch, *(values[name].get(epoch) for name in histories)] for epoch in epochs]
    shares = tuple(name for name in histories if name.endswith(SHARE_NAMES))
    return Table("Every epoch", ["epoch", *histories], rows, percent=shares)


@cache
def page_environment() -> Environment:
    """Templates of pages: every text is escaped, shares and moments have their filters."""
    environment = Environment(
        loader=PackageLoader("lightning_adv.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "percent_interval": percent_interval,
        "points": _points,
        "cell": _cell,
        "moment": _moment,
        "duration": _duration,
    }
    environment.tests["measured"] = lambda cell: isinstance(cell, int | float)
    return environment


def _cell(cell: Cell, is_share: bool) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, str):
        return cell
    if is_share:
        return percent(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"


def _points(gain: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * gain:+.1f}".replace("-", "\N{MINUS SIGN}")


def _moment(iso: str) -> str:
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M:%S %Z")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
