"""What a file of weights holds, and whether code is among it."""

from dataclasses import asdict, dataclass, field

from lightning_adv.models.contents import FileContents
from lightning_adv.results.result import Answer, EvaluationResult, Table

__all__ = ["FileResult"]

SHOWN = 30
"""Rows of a table of names; a stranger's file may hold any number."""


@dataclass(kw_only=True)
class FileResult(EvaluationResult):
    """A file that a model was loaded from, or that was refused.

    Args:
        contents: of the file.
        left_out: names of its tensors that the model holds nowhere; None where no model was loaded.
        foreign_classes: classes that its stored configuration names and no file may name.
    """

    contents: FileContents
    left_out: list[str] | None = None
    foreign_classes: list[str] = field(default_factory=list)

    question = "Does the file hold code?"

    @property
    def holds_code(self) -> bool:
        """Whether something in the file would run, or be imported, where it is trusted."""
        return bool(self.contents.code or self.foreign_classes)

    def scalars(self) -> dict[str, float]:
        """Counts."""
        counts = {"code": len(self.contents.code) + len(self.foreign_classes), "size": self.contents.size}
        return {"file/" + name: float(count) for name, count in counts.items()}

    def summary(self) -> str:
        """What the file is, and whether it holds code."""
        held = self.contents
        what = f"{held.path} is {held.kind} of {held.size:,} bytes"
        if not self.holds_code:
            calls = f"; its pickle asks for {len(held.calls)} names, which all do nothing but rebuild values"
            out = f"; {len(self.left_out)} tensors in it are not used" if self.left_out else ""
            return (
                f"{what} and holds {len(held.entries):,} entries, nothing but data{calls if held.calls else ''}{out}."
            )
        if held.code:
            return f"{what} and asks for {_few(held.code)}: whoever loads it runs that. Nothing in it was run here."
        return f"{what} whose stored configuration names {_few(self.foreign_classes)}, which was not imported here."

    def answer(self) -> Answer:
        """Yes or no, and why."""
        return Answer(self.question, "Yes" if self.holds_code else "No", self.summary())

    def tables(self) -> list[Table]:
        """The file, what its pickles ask for, its entries, what the model does not use."""
        held = self.contents
        facts = [["path", held.path], ["kind", held.kind], ["size", f"{held.size:,} bytes"], ["SHA-256", held.sha256]]
        calls = sorted(held.calls, key=lambda name: name not in held.code)
        names = [[name, "code" if name in held.code else "rebuilds values"] for name in calls]
        names += [[name, "a program in the archive"] for name in held.code if name not in held.calls]
        classes = [
            [name, "no file may name it" if name in self.foreign_classes else "allowed"] for name in held.class_paths
        ]
        note = "Read from the instructions of the pickle, of which none was carried out."
        tables = [
            Table("The file", ["", "what it is"], facts),
            _listed("What its pickles ask for", ["Name", "What it is"], names, note),
            _listed("Entries", ["Name", "Content"], [list(each) for each in held.entries.items()]),
            _listed("Classes that its stored configuration names", ["Class", "What it is"], classes),
            _listed("Tensors that the model does not use", ["Name"], [[name] for name in self.left_out or []]),
        ]
        return [table for table in tables if table.rows]

    def as_dict(self) -> dict:
        """All of it."""
        return asdict(self.contents) | {
            "left_out": self.left_out,
            "foreign_classes": list(self.foreign_classes),
            "holds_code": self.holds_code,
        }


def _listed(title: str, columns: list[str], rows: list[list], note: str = "") -> Table:
    more = f"{len(rows) - SHOWN:,} more are in results.json." if len(rows) > SHOWN else ""
    return Table(title, columns, rows[:SHOWN], note=" ".join(each for each in (note, more) if each))


def _few(names: list[str], shown: int = 4) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
