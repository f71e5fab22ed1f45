"""What pages say is in a document beside the code, and a command that has measured for hours can put it together."""

import ast
import re
import subprocess
from pathlib import Path
from string import Formatter

import pytest
from matplotlib.figure import Figure

import experiments.page
from experiments.page import Page, markdown, prose
from lightning_adv.results.result import Table
from tests.source_tree import ROOT, syntax, workshop_files

CALLS = [
    pytest.param(path, node, id=f"{path.relative_to(ROOT)}:{node.lineno}")
    for path in workshop_files()
    for node in ast.walk(syntax(path))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "prose" and ast.unparse(node.args[0]) == "__file__"
]


def document_of(path: Path) -> Path:
    """The document that a module's page is written from."""
    of_all = path.with_name("page.md")
    return of_all if of_all.is_file() else path.with_suffix(".md")


def sections(document: Path) -> dict[str, str]:
    """Text by heading; what stands before the first heading has none."""
    before, *parts = re.split(r"^## (.+)$", document.read_text(), flags=re.MULTILINE)
    return {"": before} | dict(zip(parts[::2], parts[1::2], strict=True))


def headings(path: Path, node: ast.Call) -> set[str]:
    """The section that a call asks for; all of them, where only a run tells which."""
    if len(node.args) == 1:
        return {""}
    if isinstance(node.args[1], ast.Constant):
        return {node.args[1].value}
    titles = {
        each.lineno: each.value.value
        for each in ast.walk(syntax(path))
        if isinstance(each, ast.Assign)
        and each.lineno < node.lineno
        and isinstance(each.value, ast.Constant)
        and ast.unparse(each.targets[0]) == ast.unparse(node.args[1])
    }
    return {titles[max(titles)]} if titles else set(sections(document_of(path))) - {""}


@pytest.mark.parametrize(("path", "node"), CALLS)
def test_a_text_is_given_the_figures_that_it_asks_for(path, node):
    given = {each.arg for each in node.keywords}
    texts = [sections(document_of(path))[heading] for heading in headings(path, node)]
    asked = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in texts]
    assert None in given or any(each <= given for each in asked)  # None: **figures


def test_every_section_is_on_some_page():
    asked: dict[Path, set[str]] = {}
    for path, node in (each.values for each in CALLS):
        asked.setdefault(document_of(path), set()).update(headings(path, node))
    unread = {each.parent.name: set(sections(each)) - found - {""} for each, found in asked.items()}
    assert not any(unread.values()), unread


def test_a_paragraph_becomes_a_line_with_its_figures(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("# Of {name}\n\nMore than\n{count:,} images.\n\n## A table\n\nIts\nnote.\n")
    assert prose(document, name="digits", count=1200) == "# Of digits\n\nMore than 1,200 images."
    assert prose(tmp_path / "any.py", "A table") == "Its note."
    with pytest.raises(KeyError):
        prose(document, "Another table")


def test_a_page_has_its_tables_and_where_they_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.page.RESULTS", tmp_path)
    table = Table("Shares", ["what", "share"], [["all", 1.0], ["none", None]], percent=("share",), note="A note.")
    Page("experiments.fooling", "trial", seed=None, given=["--root", "data"]).write("# Title", [table], "digits")
    text = (tmp_path / "trial.md").read_text()
    assert text.startswith(
        f"# Title\n\n## Shares\n\n{markdown(table)}\n\n## Provenance\n\n- data: digits\n- seed: in the table"
    )
    assert "| all | 100.00 % |\n| none |  |\n\nA note." in text
    assert "`python -m experiments.fooling --root data`" in text
    assert capsys.readouterr().out.strip() == str(tmp_path / "trial.md")


def test_what_a_command_writes_is_no_change_to_the_code_that_it_ran(tmp_path, monkeypatch):
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    (results / "trial.png").write_text("a picture of before")
    for arguments in (["init"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "one"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr("experiments.page.RESULTS", results)
    experiments.page._code.cache_clear()
    try:
        for stem in ("trial", "another"):  # the second page of a command finds the first one changed
            page = Page("experiments.fooling", stem, given=[])
            page.picture(Figure())
            page.write("# Title", [], "digits")
            assert re.search("^- commit: [0-9a-f]{10}$", (results / f"{stem}.md").read_text(), re.MULTILINE)
    finally:
        experiments.page._code.cache_clear()
