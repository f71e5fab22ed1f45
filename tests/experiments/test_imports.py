"""Every experiment and benchmark imports what it names from the others."""

import importlib

import pytest

from tests.source_tree import ROOT

COMMANDS = [
    f"{folder}.{path.stem}"
    for folder in ("benchmarks", "experiments")
    for path in sorted((ROOT / folder).glob("*.py"))
    if not path.stem.startswith("__")
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports(name):
    assert importlib.import_module(name).__doc__
