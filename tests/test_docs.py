"""The documents keep their promises: links lead somewhere, and the files they name are there."""

import re
from pathlib import Path

import pytest

from tests.source_tree import ROOT, workshop_files

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

WORKSHOP = [*workshop_files(), *ROOT.glob("experiments/*/*.md"), *ROOT.glob("benchmarks/*.md")]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
NAMED_FILE = re.compile(
    r"(?<![\w./-])((?:configs|docs|callbacks|lightning_adv|experiments|benchmarks|tests|\.ci)/[\w./-]*\w\.\w+)"
)
COMMAND = re.compile(r"python -m (experiments\.\w+|benchmarks(?:\.\w+)?)")
MAKE_TARGET = re.compile(r"\bmake ([a-z]+(?:-[a-z]+)*)")
CODE_SPAN = re.compile(r"`[^`\n]+`")


def name(path: Path) -> str:
    """Path below the root, as the id of a test."""
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The anchors that a document's headings make."""
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document):
    dead = []
    for target in LINK.findall(CODE_BLOCK.sub("", document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_a_document_names_are_there(document):
    missing = [each for each in NAMED_FILE.findall(document.read_text()) if not (ROOT / each).exists()]
    assert not missing


@pytest.mark.parametrize("document", [*DOCUMENTS, *WORKSHOP], ids=name)
def test_commands_of_the_workshop_that_a_document_names_are_there(document):
    places = {each: ROOT.joinpath(*each.split(".")) for each in COMMAND.findall(document.read_text())}
    missing = [
        each
        for each, place in places.items()
        if not (place / "__main__.py").is_file() and not place.with_suffix(".py").is_file()
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_make_targets_that_a_document_names_are_there(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    code = " ".join([*CODE_BLOCK.findall(text), *CODE_SPAN.findall(text)])
    assert set(MAKE_TARGET.findall(code)) <= targets
