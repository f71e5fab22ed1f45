"""Many runs beside each other: how much of its accuracy which model keeps under which attack.

Two figures share a column only where they are the same measurement: one image set, prepared alike, under one
description of the attack. What the runs say of themselves is a stranger's word: it is checked, and shown as text.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from lightning_adv.attacks.budget import as_text
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.reports.html import page_environment
from lightning_adv.reports.run import RunInfo
from lightning_adv.reports.storage import SectionDocument, read_results
from lightning_adv.reports.told import AttackedImages, attacked_images, run_of
from lightning_adv.results.result import Cell
from lightning_adv.results.shares import wilson_interval

__all__ = ["Board", "Column", "Entry", "Figure", "boards", "find_results", "write_leaderboard"]

FEW = 1000
"""Images below which a 95% interval may be wider than 6 points."""
CLEAN = "no attack"
HEADINGS = {"val": "validation images", "test": "test images"}


@dataclass(frozen=True)
class Figure:
    """An accuracy: images that stayed correct, of so many."""

    correct: int
    samples: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval (Wilson)."""
        return wilson_interval(self.correct, self.samples)


@dataclass(frozen=True)
class Column:
    """What the figures of a column were measured with.

    Args:
        title: a few words.
        description: every setting of the attack; figures compare where this is the same.
        attacks: how many there are.
        norm, eps: of the ball, where one has one.
    """

    title: str
    description: str
    attacks: int = 1
    norm: str = ""
    eps: float | None = None


@dataclass(frozen=True)
class Entry:
    """A model in one evaluation of a run.

    Args:
        name: of the run.
        file: its ``results.json``.
        run: provenance.
        title: of the run's report.
        stage: "val" or "test".
        epoch: after which it was measured; 0 outside ``fit``.
        figures: description of the attack to the accuracy under it.
        called: description of the attack to the name that the run has for it.
        flags: a word or two to a sentence that says why the figures are to be read with care.
    """

    name: str
    file: Path
    run: RunInfo
    title: str
    stage: str
    epoch: int
    figures: dict[str, Figure]
    called: dict[str, str]
    flags: list[tuple[str, str]]


@dataclass(frozen=True)
class Board:
    """Entries that were measured on the same images, and the attacks on any of them.

    Args:
        heading: names the images.
        columns: clean accuracy first.
        entries: in the order of ``ranked_by``.
        ranked_by: description of the column that orders the entries; empty for their names.
    """

    heading: str
    columns: list[Column]
    entries: list[Entry]
    ranked_by: str = ""


@dataclass
class _Group:
    heading: str
    columns: dict[str, Column] = field(default_factory=lambda: {CLEAN: Column("Clean", CLEAN, 0)})
    entries: list[Entry] = field(default_factory=list)


def find_results(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The ``results.json`` of runs, by names that tell them apart.

    Args:
        paths: such files, report folders, run folders, or folders with runs anywhere below them.

    Raises:
        InputError: a path under which there is none.
    """
    files: dict[Path, Path] = {}
    for path in map(Path, paths):
        beside = [each for each in (path / "results.json", path / "report" / "results.json") if each.is_file()]
        found = [path] if path.is_file() else beside[:1] or sorted(path.rglob("report/results.json"))
        if not found:
            raise InputError(f"{path}: no results.json of a report is there; give run folders or results.json files")
        files |= {each.resolve(): each for each in found}
    folders = [_run_folder(file) for file in files]
    shared = len(Path(os.path.commonpath(folders)).parts) - (len(set(folders)) == 1)
    names = ["/".join(folder.parts[shared:]) or folder.name for folder in folders]
    often = Counter(names)
    unique = (name if often[name] == 1 else str(file) for name, file in zip(names, files, strict=True))
    return dict(zip(unique, files.values(), strict=True))


def boards(runs: Mapping[str, str | os.PathLike[str]], sort: str | None = None) -> list[Board]:
    """Tables of the runs' accuracies under attack, one for every set of images.

    Evaluations of other kinds are left out, as are minimal-norm attacks, whose distances are no accuracy. Runs that do
    not tell their images compare with none.

    Args:
        runs: name to a ``results.json`` or the folder that holds it.
        sort: what orders the entries: "run", or words of a column ("clean", "worst", "autoattack", "eps=8/255"); by
            default the attack that most of them have met.

    Raises:
        InputError: a damaged file, no accuracy under attack in any of them, or no such column.
    """
    groups: dict[tuple, _Group] = {}
    for name, path in runs.items():
        document = read_results(path)
        run = run_of(document)
        for number, section in enumerate(document["sections"]):
            if section["kind"] != "RobustnessResult":
                continue
            images = attacked_images(section, f"results {path}, sections[{number}]")
            key = (section["stage"], run.data, run.preparation, "" if run.data else name)
            group = groups.setdefault(key, _Group(_heading(run, section["stage"])))
            group.entries.append(_entry(name, Path(path), run, document["title"], section, images))
            group.columns |= {column.description: column for column in _columns(images)}
    if not groups:
        raise InputError(f"no accuracy under attack in {', '.join(map(str, runs.values()))}: evaluate the models first")
    ranked = [_ranked(group, sort) for group in groups.values()]
    if sort not in (None, "run") and not any(_sought(board.columns, sort) for board in ranked):
        titles = dict.fromkeys(column.title for board in ranked for column in board.columns)
        raise InputError(f"--sort {sort}: no column has these words; there are run, {', '.join(titles)}")
    return ranked


def write_leaderboard(
    folder: str | os.PathLike[str], runs: Mapping[str, str | os.PathLike[str]], sort: str | None = None
) -> Path:
    """Write the page of several runs and ``leaderboard.csv``, one line for every figure.

    Args:
        folder: where to write; made if missing.
        runs, sort: see :func:`boards`.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: see :func:`boards`; or the folder cannot be written.
    """
    folder, ranked = Path(folder), boards(runs, sort)
    links = {entry.file: _link(folder, entry.file) for board in ranked for entry in board.entries}
    page = page_environment().get_template("leaderboard.html.j2").render(boards=ranked, links=links, clean=CLEAN)
    replace_atomically(folder / "leaderboard.csv", _csv(ranked))
    replace_atomically(folder / "index.html", page)
    return folder / "index.html"


def _run_folder(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "report" else file.parent


def _heading(run: RunInfo, stage: str) -> str:
    images = HEADINGS.get(stage, stage)
    return f"{run.data}: {images}" if run.data else f"{images[0].upper()}{images[1:]} of a set that is not told"


def _columns(images: AttackedImages) -> Iterator[Column]:
    for row in images.attacks:
        kind = row.description.partition("(")[0][:40]
        ball = "" if row.eps is None else f" {row.norm[:8]} {as_text(row.eps)}"
        yield Column(f"{kind}{ball}", row.description, 1, row.norm, row.eps)
    if len(images.attacks) > 1:
        yield Column(f"Worst of {len(images.attacks)}", _worst(images), len(images.attacks))


def _worst(images: AttackedImages) -> str:
    return "; ".join(sorted(row.description for row in images.attacks))


def _entry(name: str, file: Path, run: RunInfo, title: str, section: SectionDocument, images: AttackedImages) -> Entry:
    counts = {CLEAN: images.clean_correct}
    for row in images.attacks:  # two that differ in nothing but their seed are one measurement: the worse counts
        counts[row.description] = min(row.robust_correct, counts.get(row.description, images.samples))
    if len(images.attacks) > 1:
        counts[_worst(images)] = images.worst_case_correct
    return Entry(
        name=name,
        file=file,
        run=run,
        title=title,
        stage=section["stage"],
        epoch=section["epoch"],
        figures={description: Figure(correct, images.samples) for description, correct in counts.items()},
        called={row.description: row.name for row in images.attacks},
        flags=list(_flags(run, section, images)),
    )


def _flags(run: RunInfo, section: SectionDocument, images: AttackedImages) -> Iterator[tuple[str, str]]:
    """Why the figures of an evaluation are to be read with care."""
    if run.ended or run.finished is None:
        yield "not finished", f"The run did not finish: {run.ended or 'no end is told'}."
    for cut in run.cuts:
        yield "cut", f"Cut to fit the time: {cut}."
    if images.samples < FEW:
        yield "few images", f"{images.samples:,} images: read the intervals."
    if images.draws > 1:
        yield "randomised", f"The model is randomised: its class is the mean of {images.draws} draws."
    if run.normalisation is not None and run.normalisation.assumed:
        yield "normalisation assumed", f"Nobody said that the network was trained with {run.normalisation}."
    for warning in section["warnings"]:
        yield "warning", warning


def _ranked(group: _Group, sort: str | None) -> Board:
    columns = sorted(group.columns.values(), key=lambda column: min(column.attacks, 2))
    met = Counter(description for entry in group.entries for description in entry.figures)
    attacks = columns[1:] or columns
    usual = max(attacks, key=lambda column: met[column.description])
    by = "" if sort == "run" else (_sought(columns, sort or "") or usual).description
    entries = sorted(group.entries, key=lambda entry: (entry.name, -entry.epoch))
    if by:
        entries.sort(key=lambda entry: entry.figures[by].share if by in entry.figures else -1, reverse=True)
    return Board(group.heading, columns, entries, by)


def _sought(columns: Sequence[Column], words: str) -> Column | None:
    wanted = words.lower()
    named = (column for column in columns if wanted in column.title.lower() or wanted in column.description.lower())
    return next(named, None) if wanted else None


def _link(folder: Path, file: Path) -> str | None:
    """The page of a run, as the leaderboard reaches it."""
    page = (file if file.is_dir() else file.parent) / "index.html"
    return quote(os.fsencode(os.path.relpath(page, folder))) if page.is_file() else None


def _csv(ranked: Sequence[Board]) -> str:
    text = io.StringIO()
    lines = [_line(entry, column) for board in ranked for entry in board.entries for column in board.columns
             if column.description in entry.figures]  # fmt: skip
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(cell) for name, cell in line.items()} for line in lines)
    return text.getvalue()


def _line(entry: Entry, column: Column) -> dict[str, Cell]:
    figure, run = entry.figures[column.description], entry.run
    low, high = figure.interval
    return {
        "run": entry.name,
        "title": entry.title,
        "data": run.data,
        "preparation": run.preparation,
        "stage": entry.stage,
        "epoch": entry.epoch,
        "attack": column.title,
        "called": entry.called.get(column.description),
        "description": column.description,
        "norm": column.norm,
        "eps": column.eps,
        "images": figure.samples,
        "correct": figure.correct,
        "accuracy": figure.share,
        "low": low,
        "high": high,
        "flags": " ".join(sentence for _, sentence in entry.flags),
        "model": run.model,
        "weights": ", ".join(f"{name} {sha256}" for name, sha256 in run.weights.items()),
        "normalisation": None if run.normalisation is None else str(run.normalisation),
        "commit": run.commit,
        "dirty": None if run.dirty is None else int(run.dirty),
        "seed": run.seed,
        "started": run.started,
        "file": str(entry.file),
    }


def _inert(cell: Cell) -> Cell:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
