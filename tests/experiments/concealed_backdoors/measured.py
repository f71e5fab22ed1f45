"""The cell that the tests measure, and what a run folder holds."""

import json
from pathlib import Path

from experiments.concealed_backdoors.setup import Cell

RECONSTRUCTED = Cell("MNIST", "reconstructed", 0.6)


def found_in(folder: Path) -> dict[str, dict]:
    """Measured repeats by the path of their file."""
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.glob("*/*/*.json")}
