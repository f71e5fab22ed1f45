"""Where experiments and benchmarks stand: above the package, experiments beside each other, benchmarks above these."""

import subprocess
import sys
from pathlib import Path

import pytest

import experiments.backdoor_bench.__main__ as backdoor_bench
from experiments.command import command
from tests.source_tree import ROOT, asked_of, imports, source_files, workshop_files

EXPERIMENTS = ROOT / "experiments"
OF_EXPERIMENTS = [path for path in workshop_files() if path.is_relative_to(EXPERIMENTS)]


def name(path: Path) -> str:
    """Path below the root, as the id of a test."""
    return str(path.relative_to(ROOT))


def of_the_workshop(path: Path) -> set[str]:
    """Dotted names of the workshop that a file imports."""
    return {each for each in imports(path, annotations_too=True) if each.split(".")[0] in ("benchmarks", "experiments")}


@asked_of([*source_files(), ROOT / "train.py", ROOT / "evaluate.py"])
def test_the_package_knows_nothing_of_the_workshop(path):
    assert not of_the_workshop(path), "experiments and benchmarks stand above the package, and are not in its wheel"


@asked_of(OF_EXPERIMENTS)
def test_an_experiment_stands_by_itself(path):
    """It imports the package and what all experiments share; benchmarks may ask any experiment for its models."""
    own = path.relative_to(EXPERIMENTS).parts[0]
    shared = {f"experiments.{each.stem}" for each in EXPERIMENTS.glob("*.py")}
    others = sorted(each for each in of_the_workshop(path) - shared if each.split(".")[:2] != ["experiments", own])
    assert not others, f"move what {name(path)} needs of {others} beside the modules that experiments share"


def test_an_experiment_is_a_folder_with_a_command_and_its_page():
    folders = [each for each in EXPERIMENTS.iterdir() if each.is_dir() and any(each.glob("*.py"))]
    lacking = [
        each.name for each in folders if not {"__main__.py", "page.md"} <= {file.name for file in each.iterdir()}
    ]
    loose = [name(each) for each in EXPERIMENTS.glob("*.py") if "__main__" in each.read_text()]
    assert not [*lacking, *loose], "what lies beside the folders is shared, and is no command"


COMMANDS = [path for path in workshop_files() if "import arguments" in path.read_text()]


@asked_of(COMMANDS)
def test_a_command_ends_in_one_line_where_its_input_cannot_be_meant(path):
    assert path.read_text().endswith('if __name__ == "__main__":\n    command(main)\n')


def test_what_cannot_be_meant_is_one_line_and_changes_no_page(tmp_path, monkeypatch, capsys):
    before = pages()
    places = ["--root", str(tmp_path / "nowhere"), "--run", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["command", "--draft", *places])
    with pytest.raises(SystemExit) as ended:
        command(backdoor_bench.main)
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    assert "nowhere" in said
    assert "set root" in said
    assert pages() == before


@pytest.mark.parametrize("caught", [False, True])
def test_a_process_that_fails_has_said_why_itself(caught, capfd):
    line = [sys.executable, "-c", "import sys; sys.exit('no such data')"]
    with pytest.raises(SystemExit) as ended:
        command(lambda: subprocess.run(line, check=True, capture_output=caught, text=True))
    assert ended.value.code == 1
    assert capfd.readouterr().err == "no such data\n"


def pages() -> dict[str, bytes]:
    """What the commands have written so far."""
    return {str(path): path.read_bytes() for path in (ROOT / "docs/results").iterdir() if path.is_file()}
