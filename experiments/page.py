"""Pages under ``docs/results``: written by the command that measured them, never by hand."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from matplotlib.figure import Figure

from experiments.origin import ROOT, Origin, code, here, is_draft, noted, portable, refuse_changes, said
from lightning_adv.files import replace_atomically
from lightning_adv.reports.html import page_environment
from lightning_adv.reports.run import RunInfo, run_info
from lightning_adv.results.figures import png
from lightning_adv.results.result import Table

__all__ = ["RESULTS", "Page", "markdown", "prose", "write_page"]

RESULTS = ROOT / "docs" / "results"


class Page:
    """The page of a command: begun before anything is measured, since it says how long that took.

    It comes from committed code and from figures that have their origin with them; what ``--draft`` writes, in the
    run's folder, does not need to.

    Args:
        command: dotted name behind ``python -m``.
        stem: of the file.
        run: folder of the run.
        seed: None where the tables have it.
        given: arguments of the command; default those of this process.
        sortable: write the tables a second time, into a page of HTML whose headings sort them.

    Raises:
        InputError: the code differs from its commit, and no draft was asked for.
    """

    def __init__(
        self,
        command: str,
        stem: str,
        run: str = ".",
        seed: int | None = 0,
        given: Sequence[str] | None = None,
        sortable: bool = False,
    ) -> None:
        self.stem, self.run, self.seed, self.sortable = stem, run, seed, sortable
        self.command = ["python", "-m", command, *map(portable, sys.argv[1:] if given is None else given)]
        self.started, self.code = datetime.now(UTC), code()
        self.tables: list[tuple[Table, list[Origin]]] = []
        refuse_changes([])
        noted()

    def picture(self, figure: Figure, name: str = "", dpi: int = 130) -> str:
        """Save a figure beside the page; the name of its file, for a link."""
        file = f"{self.stem}{f'_{name}' if name else ''}.png"
        replace_atomically(_folder(self.run) / file, png(figure, dpi=dpi))
        return file

    def add(self, *tables: Table) -> None:
        """Tables, whose figures are what was read since the last ones; without any, what is measured now."""
        origins = noted() or [here()]
        self.tables += [(table, origins) for table in tables]

    def write(self, text: str, tables: Sequence[Table], data: str) -> None:
        """Write it, and say where it lies.

        Args:
            text: heading, what was done, and what the figures say.
            tables: the figures, besides those that were added before.
            data: which images were used.

        Raises:
            InputError: a figure was measured with local changes, and no draft was asked for.
        """
        self.add(*tables)
        refuse_changes([origin for _, origins in self.tables for origin in origins])
        info = run_info(
            self.seed, self.run, self.started, finished=datetime.now(UTC), command=self.command, code=self.code
        )
        dated = [replace(table, note=f"{table.note}\n\n{said(origins)}".strip()) for table, origins in self.tables]
        print(write_page(self.stem, text, dated, info, data, self.sortable), flush=True)


def _folder(run: str) -> Path:
    """Where a page and its pictures lie."""
    folder = Path(run) if is_draft() else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_page(name: str, text: str, tables: Sequence[Table], run: RunInfo, data: str, sortable: bool = False) -> Path:
    """Write ``docs/results/<name>.md`` and return its path; the arguments are those of :meth:`Page.write`.

    Raises:
        InputError: the run was made with local changes, and no draft was asked for.
    """
    refuse_changes([Origin(run.commit, run.dirty)])
    cores = f"{run.machine.cores} core{'s' * (run.machine.cores != 1)}"
    machine = f"{run.machine.cpu}, {cores}" + "".join(f", {gpu}" for gpu in run.machine.gpus)
    commit = f"{run.commit[:10]}{' with local changes' * bool(run.dirty)}" if run.commit else "none"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    facts = [
        ("data", data),
        ("seed", "in the table" if run.seed is None else run.seed),
        ("commit", commit),
        ("machine", machine),
        ("versions", versions),
    ]
    facts += [("command", f"`{run.command}`"), ("started", run.started), ("finished", run.finished)]
    if sortable:
        template = page_environment().from_string(Path(__file__).with_suffix(".html.j2").read_text())
        title, *paragraphs = text.removeprefix("# ").split("\n\n")
        page = template.render(title=title, paragraphs=paragraphs, tables=tables, facts=facts)
        replace_atomically(_folder(run.folder) / f"{name}.html", page)
        text += f"\n\n[The same tables, to be sorted]({name}.html)"
    body = "\n\n".join(f"## {table.title}\n\n{markdown(table)}" for table in tables)
    listing = "\n".join(f"- {key}: {value}" for key, value in facts)
    path = _folder(run.folder) / f"{name}.md"
    replace_atomically(path, f"{text}\n\n{body}\n\n## Provenance\n\n{listing}\n")
    return path


def prose(beside: str | Path, heading: str = "", /, **figures: object) -> str:
    """What a page says, from a document in Markdown beside the code that writes it.

    Args:
        beside: ``__file__`` of a module, whose document is the folder's ``page.md`` or else has the module's name; or
            the document itself.
        heading: of the section wanted; without one, everything before the first section.
        figures: put into the braces of the text.

    Returns:
        The section, a paragraph a line.
    """
    path = Path(beside)
    if path.suffix != ".md":
        of_all = path.with_name("page.md")
        path = of_all if of_all.is_file() else path.with_suffix(".md")
    before, *parts = re.split(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
    section = ({"": before} | dict(zip(parts[::2], parts[1::2], strict=True)))[heading]
    return "\n\n".join(" ".join(each.split()) for each in section.strip().split("\n\n")).format(**figures).strip()


def markdown(table: Table) -> str:
    """The table in Markdown, shares as percentages, with its note below."""
    lines = [table.columns, ["---"] * len(table.columns)]
    for row in table.rows:
        lines.append([_cell(cell, column in table.percent) for cell, column in zip(row, table.columns, strict=True)])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{table.note}" if table.note else text


def _cell(cell: str | int | float | None, share: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{100 * cell:.2f} %" if share else f"{cell:.4g}"
    return str(cell)
