import importlib
import os
import sys
from pathlib import Path

import pytest

from lightning_adv.cli import kept
from lightning_adv.cli.kept import keep, print_kept, recall, state
from tests.cli.commands import run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lightning_adv"


def file_in(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def page(text: str, words: tuple[str, ...] = ("fit", "--help")) -> str:
    """What is printed where a fresh page would have that text."""
    outcome = run([], lambda _: print_kept([*words], lambda: print(text)))
    assert outcome.status == 0
    return outcome.out


def test_what_is_kept_is_known_to_the_next(folder):
    assert recall("classes") is None
    keep("classes", {"a": [1, 2.5, None, "ü"]})
    keep("other", 3)
    assert recall("classes") == {"a": [1, 2.5, None, "ü"]}
    assert recall("other") == 3


def test_another_state_knows_nothing_and_takes_the_place(folder, monkeypatch):
    keep("classes", 3)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "state", lambda: "another")
        assert recall("classes") is None
        keep("classes", 4)
        assert recall("classes") == 4
    assert recall("classes") is None


@pytest.mark.parametrize("change", ["code", "a file more", "version"])
def test_the_state_changes_with_code_and_versions(change, tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("a = 1")
    monkeypatch.setattr(kept, "PACKAGE", tmp_path / "package")
    monkeypatch.syspath_prepend(tmp_path)
    fresh = state.__wrapped__
    before = fresh()
    assert fresh() == before
    if change == "code":
        (tmp_path / "package" / "code.py").write_text("a = 2")
    elif change == "a file more":
        (tmp_path / "package" / "more.py").touch()
    else:
        (tmp_path / "torch-99.dist-info").mkdir()
    assert fresh() != before


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"3", b"\xff", b'{"state": 3, "parts": {}}', b"[" * 10_000])
def test_a_damaged_file_is_as_none(damage, folder):
    keep("classes", 3)
    file_in(folder).write_bytes(damage)
    assert recall("classes") is None
    keep("classes", 4)
    assert recall("classes") == 4


def test_parts_that_are_no_mapping_are_none(folder):
    keep("classes", 3)
    file = file_in(folder)
    file.write_text(file.read_text().replace('{"classes": 3}', "[3]"))
    assert recall("classes") is None


def test_where_nothing_can_be_written_nothing_is_kept(folder):
    folder.parent.mkdir()
    folder.touch()
    keep("classes", 3)
    assert recall("classes") is None
    assert page("fresh") == page("fresh") == "fresh\n"


def test_what_is_kept_does_not_grow_without_end(folder):
    for number in range(kept.MOST + 5):
        keep(f"page {number}", number)
    assert [recall(f"page {number}") for number in (0, 4, 5, kept.MOST + 4)] == [None, None, 5, kept.MOST + 4]


def test_a_page_is_kept_for_its_words_and_its_screen(monkeypatch):
    assert page("one") == page("two") == "one\n"
    assert page("two", ("test", "--help")) == "two\n"
    for name, value in {"COLUMNS": "43", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
        assert page(name) == f"{name}\n"
    monkeypatch.undo()


def test_a_page_that_ends_with_a_mistake_is_not_kept():
    def make() -> None:
        print("half")
        raise SystemExit(2)

    outcome = run([], lambda _: print_kept(["help", "PDG"], make))
    assert (outcome.status, outcome.out) == (2, "half\n")
    assert page("whole", ("help", "PDG")) == "whole\n"


def test_a_relative_folder_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    keep("classes", 3)
    assert not Path("here").exists()
    assert os.listdir(tmp_path / "home" / ".cache") == ["lightning_adv"]


def test_the_state_is_the_same_after_setuptools_was_imported():
    before = state.__wrapped__()
    importlib.import_module("setuptools")
    assert any(path.endswith("_vendor") for path in sys.path)
    assert state.__wrapped__() == before


def test_weights_beside_the_program_are_no_version_of_a_package(tmp_path, monkeypatch):
    before = state.__wrapped__()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "weights.pth").touch()
    assert state.__wrapped__() == before
    (tmp_path / "other-1.0.dist-info").touch()
    assert state.__wrapped__() != before
