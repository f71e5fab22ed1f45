"""The report: a folder with ``index.html``, ``results.json`` and ``pictures/`` that needs no network and no script."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_adv.files import replace_atomically
from lightning_adv.reports.answers import answers
from lightning_adv.reports.comparison import compare
from lightning_adv.reports.robustbench import Submission, benchmark_entries
from lightning_adv.reports.run import RunInfo
from lightning_adv.reports.storage import (
    Histories,
    as_json,
    read_results,
    results_document,
    section_document,
)
from lightning_adv.results.figures import history_curves, png
from lightning_adv.results.result import Cell, EvaluationResult, Picture, Table, joint_warnings
from lightning_adv.results.shares import percent, percent_interval

__all__ = ["page_environment", "write_report"]

LONG_TABLE = 15  # rows; a longer table is folded
SHARE_NAMES = ("accuracy", "rate", "share")  # endings of metrics that lie in [0, 1]
MOST_CURVES = 12
CURVE_NAMES = ("accuracy", "attack_success_rate")  # endings of those worth a curve


@dataclass(frozen=True)
class PictureFile:
    """A picture on the page: file name under ``pictures/`` and size in CSS pixels."""

    file: str
    title: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Section:
    """A result with what the page needs of it."""

    anchor: str
    result: EvaluationResult
    tables: list[Table]
    pictures: list[PictureFile]
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

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: a baseline cannot be read, or the folder cannot be written.
    """
    folder = Path(folder)
    others = {name: (Path(path), read_results(path)) for name, path in baselines.items()}
    shown = [
        _section(folder, number, result, warnings)
        for number, (result, warnings) in enumerate(zip(sections, joint_warnings(sections), strict=True), start=1)
    ]
    documents = [section_document(s.result, [picture.file for picture in s.pictures], s.warnings) for s in shown]
    document = results_document(title, run, documents, histories, others)
    compared = compare(documents, {name: other for name, (_, other) in others.items()})
    entries = benchmark_entries(sections, run, submission)
    infos = {f"model_info{f'_{n}' if n > 1 else ''}.json": entry for n, entry in enumerate(entries, start=1)}
    page = page_environment().get_template("index.html.j2")
    text = page.render(
        title=title,
        sections=shown,
        answers=[] if unasked is None else answers(sections, unasked, run.cuts),
        sentences=[sentence for sentence in (result.summary() for result in sections) if sentence],
        comparisons=[(section, figures) for section, figures in zip(shown, compared, strict=True) if figures],
        cards=[figure for figures in compared for figure in figures if figure.card],
        baseline_documents={name: other for name, (_, other) in others.items()},
        history=_history(folder, histories),
        history_table=_history_table(histories),
        infos=infos,
        run=run,
        config_yaml=config_yaml,
        long_table=LONG_TABLE,
    )
    for file, entry in infos.items():
        replace_atomically(folder / file, as_json(entry.fields))
    for stale in {each.name for each in folder.glob("model_info*.json")} - infos.keys():
        (folder / stale).unlink()  # of an earlier report
    replace_atomically(folder / "results.json", as_json(document))
    replace_atomically(folder / "index.html", text.encode())
    return folder / "index.html"


def _section(folder: Path, number: int, result: EvaluationResult, warnings: list[str]) -> Section:
    # The numbers keep names apart that differ only in characters a file name cannot hold.
    pictures = [_write_picture(folder, f"{number}-{i}", p) for i, p in enumerate(result.pictures(), start=1)]
    return Section(f"section-{number}", result, result.tables(), pictures, warnings)


def _write_picture(folder: Path, number: str, picture: Picture) -> PictureFile:
    figure = picture.draw()
    file = f"{number}_{re.sub(r'[^A-Za-z0-9-]+', '_', picture.name)}.png"
    replace_atomically(folder / "pictures" / file, png(figure))
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    return PictureFile(file, picture.title, picture.caption, width, height)


def _history(folder: Path, histories: Histories) -> PictureFile | None:
    """One picture of all accuracies; the other metrics are in the table and in ``results.json``."""
    shares = {name: points for name, points in histories.items() if points and name.endswith(CURVE_NAMES)}
    if not shares:
        return None
    # Beyond a dozen lines nobody can tell them apart: keep those of the fewest levels, the headlines.
    kept = sorted(shares, key=lambda name: name.count("/"))[:MOST_CURVES]
    shares = {name: points for name, points in shares.items() if name in kept}
    picture = Picture("history", "Accuracy over epochs", lambda: history_curves(shares))
    return _write_picture(folder, "0", picture)


def _history_table(histories: Histories) -> Table | None:
    epochs = sorted({epoch for points in histories.values() for epoch, _ in points})
    if not epochs:
        return None
    values = {name: dict(points) for name, points in histories.items()}
    rows = [[epoch, *(values[name].get(epoch) for name in histories)] for epoch in epochs]
    shares = tuple(name for name in histories if name.endswith(SHARE_NAMES))
    return Table("Every epoch", ["epoch", *histories], rows, percent=shares)


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
