"""The index of results says what its pages say, and goes no further."""

import re

import pytest

from tests.source_tree import ROOT

RESULTS = ROOT / "docs" / "results"
VERDICTS = {"reproduced", "trend", "differs", "cannot be measured here"}
COLUMNS = ["claim", "here", "the paper", "verdict", "why", "page"]
TABLES = {"001": range(1, 5), "002": (1, 3, 4, 5, 6), "003": range(1, 7)}
"""Tables with figures to compare, by paper; the others print their claims in the text."""

INDEX = (RESULTS / "README.md").read_text()
ROWS = [
    dict(zip(COLUMNS, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
    for line in INDEX.splitlines()
    if line.startswith("| ") and not line.startswith(("| claim", "| ---"))
]


def figures(text: str) -> set[str]:
    """Numbers with a decimal part, which settings in words seldom are."""
    return set(re.findall(r"\d+\.\d+", text))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["claim"][:60])
def test_a_line_says_what_its_page_says(row):
    pages = re.findall(r"\]\((\w+\.md)\)", row["page"])
    assert pages, "name the page"
    text = " ".join((RESULTS / page).read_text() for page in pages)
    missing = figures(row["here"] + row["why"]) - figures(text)
    assert not missing, f"{', '.join(pages)} does not say {missing}: put what it says into docs/results/README.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["claim"][:60])
def test_a_verdict_is_one_of_four_words_with_the_papers_figure_and_a_reason(row):
    assert row["verdict"] in VERDICTS
    assert row["the paper"]
    assert row["why"] or row["verdict"] == "reproduced"


def test_each_table_of_the_papers_has_its_line():
    for paper, numbers in TABLES.items():
        section = re.search(rf"## Paper {paper}.*?(?=\n## |\Z)", INDEX, re.DOTALL).group()
        for number in numbers:
            assert re.search(rf"\| Tables? {number}\b", section), f"paper {paper}, table {number}"
