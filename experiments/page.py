"""Pages under ``docs/results``: written by the command that measured them, never by hand."""

from collections.abc import Sequence
from pathlib import Path

from lightning_adv.files import replace_atomically
from lightning_adv.reports.run import RunInfo
from lightning_adv.results.result import Table

__all__ = ["RESULTS", "markdown", "write_page"]

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def write_page(name: str, title: str, text: str, tables: Sequence[Table], run: RunInfo, data: str) -> Path:
    """Write ``docs/results/<name>.md`` and return its path.

    Args:
        name: file stem.
        title: heading.
        text: what was done, and what the figures say.
        tables: the figures.
        run: seed, commit, machine and time of the run.
        data: which images were used.
    """
    machine = f"{run.machine.cpu}, {run.machine.cores} cores" + "".join(f", {gpu}" for gpu in run.machine.gpus)
    commit = f"{run.commit[:10]}{' with local changes' if run.dirty else ''}" if run.commit else "none"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    facts = [
        ("data", data),
        ("seed", "in the table" if run.seed is None else run.seed),
        ("commit", commit),
        ("machine", machine),
        ("versions", versions),
    ]
    facts += [("command", f"`{run.command}`"), ("started", run.started), ("finished", run.finished)]
    body = "\n\n".join(f"## {table.title}\n\n{markdown(table)}" for table in tables)
    listing = "\n".join(f"- {key}: {value}" for key, value in facts)
    path = RESULTS / f"{name}.md"
    replace_atomically(path, f"# {title}\n\n{text}\n\n{body}\n\n## Provenance\n\n{listing}\n")
    return path


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
