"""The cell that the tests measure, and what a run folder holds."""

from pathlib import Path

from experiments.concealed_backdoors.setup import Cell
from experiments.kept import content
from experiments.records import read_records

RECONSTRUCTED = Cell("MNIST", "reconstructed", 0.6)


def found_in(folder: Path) -> dict[str, dict]:
    """Measured repeats by the path of their file."""
    return {name: content(record) for name, record in read_records(folder, "*/*/*.json").items()}
