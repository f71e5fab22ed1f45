"""The notebooks of the site run from top to bottom, on a few images, and hold no outputs."""

import json
import os

import pytest
from matplotlib import pyplot

from tests.source_tree import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_holds_no_outputs(notebook, tmp_path, monkeypatch):
    cells = [each for each in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if each["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    assert len(cells) > 4
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "NOTEBOOK_IMAGES", "8")
    monkeypatch.setitem(os.environ, "NOTEBOOK_STEPS", "2")
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)
    pyplot.close("all")
