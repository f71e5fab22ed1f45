"""What pages say is in a document beside the code, and a command that has measured for hours can put it together."""

import ast
import json
import re
import subprocess
from pathlib import Path
from string import Formatter

import pytest
from matplotlib.figure import Figure

import experiments.origin
from experiments.kept import Kept
from experiments.origin import Origin, code, here, said
from experiments.page import Page, markdown, prose
from lightning_adv.errors import InputError
from lightning_adv.reports.run import Code
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


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Where pages lie, of a program that is as its commit has it."""
    monkeypatch.setattr("experiments.page.RESULTS", tmp_path / "results")
    state = {"code": Code("a" * 40, False)}
    monkeypatch.setattr("experiments.origin.code", lambda: state["code"])
    monkeypatch.setattr("experiments.page.code", lambda: state["code"])
    monkeypatch.setattr("sys.argv", ["trial"])
    return state


def one(title: str) -> Table:
    return Table(title, ["what"], [["all"]])


def test_a_page_has_its_tables_and_where_they_come_from(results, tmp_path, capsys):
    table = Table("Shares", ["what", "share"], [["all", 1.0], ["none", None]], percent=("share",), note="A note.")
    Page("experiments.fooling", "trial", seed=None, given=["--root", "data"]).write("# Title", [table], "digits")
    text = (tmp_path / "results" / "trial.md").read_text()
    assert text.startswith(f"# Title\n\n## Shares\n\n{markdown(table)}\n\nMeasured ")
    assert "\n\n## Provenance\n\n- data: digits\n- seed: in the table" in text
    assert "| all | 100.00 % |\n| none |  |\n\nA note." in text
    assert "`python -m experiments.fooling --root data`" in text
    assert capsys.readouterr().out.strip() == str(tmp_path / "results" / "trial.md")


def test_a_sortable_page_has_the_same_tables_as_html(results, tmp_path):
    table = Table("Shares", ["what", "share"], [["<all>", 0.5], ["none", None]], percent=("share",), note="A note.")
    page = Page("experiments.fooling", "trial", given=[], sortable=True)
    page.write("# A & B\n\nOne.\n\nTwo.", [table], "digits")
    assert "[The same tables, to be sorted](trial.html)" in (tmp_path / "results" / "trial.md").read_text()
    text = (tmp_path / "results" / "trial.html").read_text()
    assert "<h1>A &amp; B</h1>\n<p>One.</p>\n<p>Two.</p>" in text
    assert re.search(r'<table data-name="Shares">', text)
    assert '<th scope="row">&lt;all&gt;</th>' in text
    assert 'data-value="0.5"' in text
    assert "sort(table, place)" in text
    assert re.search(r"<p class=.note.>A note\.\s+Measured 20\d\d", text)
    assert re.search("data: digits</p>", text)


def test_each_table_says_when_and_with_which_commit_its_figures_were_measured(results, tmp_path):
    kept = Kept(tmp_path / "run")
    kept.figures("old", lambda: 1)
    results["code"] = Code("b" * 40, False)
    page = Page("experiments.fooling", "trial", given=[])
    kept.figures("old", lambda: 1)
    page.add(one("First"))
    kept.figures("new", lambda: 2)
    page.add(one("Second"))
    page.write("# Title", [one("Third")], "digits")
    first, second, third = (tmp_path / "results" / "trial.md").read_text().split("\n## ")[1:4]
    assert "commit aaaaaaaaaa." in first
    assert "commit bbbbbbbbbb." in second
    assert "commit bbbbbbbbbb." in third, "measured by this command, and kept nowhere"


def test_what_is_said_of_figures_is_their_span_and_their_commits():
    known = [Origin("a" * 40, False, "2026-11-21T10:00:05+00:00"), Origin("b" * 40, False, "2026-11-20T09:00:00+00:00")]
    assert said(known) == "Measured 2026-11-20 09:00 to 2026-11-21 10:00 UTC, commit aaaaaaaaaa, bbbbbbbbbb."
    assert said([Origin()]) == "Measured at an unknown time, kept without a commit."


def test_changed_code_writes_no_page_of_results_and_drafts_lie_in_the_runs_folder(results, tmp_path, monkeypatch):
    run = tmp_path / "run"
    results["code"] = Code("a" * 40, True)
    with pytest.raises(InputError, match="commit your changes, or give --draft"):
        Page("experiments.fooling", "trial", str(run), given=[])
    monkeypatch.setattr("sys.argv", ["trial", "--draft"])
    page = Page("experiments.fooling", "trial", str(run), given=[])
    Kept(run).figures("rate", lambda: 1)
    page.picture(Figure())
    page.write("# Title", [one("Drafted")], "digits")
    assert {each.name for each in run.iterdir()} == {"rate.json", "trial.md", "trial.png"}
    assert "with local changes" in (run / "trial.md").read_text()
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr("sys.argv", ["trial"])
    results["code"] = Code("a" * 40, False)
    page = Page("experiments.fooling", "trial", str(run), given=[])
    Kept(run).figures("rate", lambda: 2)
    with pytest.raises(InputError, match="1 of 1 kept figures were measured with local changes"):
        page.write("# Title", [one("Kept")], "digits")


def test_what_a_command_writes_is_no_change_to_the_code_that_it_ran(tmp_path, monkeypatch):
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    (results / "trial.png").write_text("a picture of before")
    (tmp_path / "code.py").write_text("as committed")
    for arguments in (["init"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "one"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr("experiments.page.RESULTS", results)
    monkeypatch.setattr(experiments.origin, "ROOT", tmp_path)
    try:
        for stem in ("trial", "another"):
            code.cache_clear()  # a command after the other: the second one finds the pages of the first
            page = Page("experiments.fooling", stem, given=[])
            page.picture(Figure())
            page.write("# Title", [], "digits")
            assert re.search("^- commit: [0-9a-f]{10}$", (results / f"{stem}.md").read_text(), re.MULTILINE)
        (tmp_path / "code.py").write_text("changed")
        code.cache_clear()
        assert code().dirty
    finally:
        code.cache_clear()


NOT_MADE_AGAIN = {
    "adversarial_objective",
    "diffusion_purification",
    "image_transformations_CIFAR10",
    "lgap",
    "lgap_quick",
    "nmutant_CIFAR10",
    "physical",
    "precision",
    "recipes",
}
"""Pages from before that law; the list only shrinks."""


def test_no_page_was_written_with_local_changes():
    pages = (ROOT / "docs" / "results").glob("*.md")
    assert {each.stem for each in pages if "with local changes" in each.read_text()} == NOT_MADE_AGAIN


def test_a_kept_figure_names_no_folder_of_the_machine(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--models", "/home/me/models", "--root=/home/me/data", "--run", "runs/x"])
    assert here().command == "--models models --root=data --run runs/x"
    for path in (ROOT / "docs/results").glob("*.json"):
        repeats = json.loads(path.read_text())["repeats"].values()
        commands = [each["origin"]["command"] or "" for each in repeats if "origin" in each]
        assert not [each for each in commands if any(word.startswith("/") for word in re.split(r"[ =]", each))], path
