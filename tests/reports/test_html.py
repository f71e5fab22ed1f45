import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from lightning_adv.errors import InputError
from lightning_adv.reports.html import write_report
from tests.results.samples import attack, examples


class Outline(HTMLParser):
    """The tags, references and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.references, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def report(tmp_path, provenance):
    def write(*sections, folder="report", **changes):
        arguments = {"title": "A run", "histories": {}, "baselines": {}, "run": provenance, "config_yaml": "seed: 7\n"}
        return write_report(tmp_path / folder, sections=sections, **(arguments | changes))

    return write


def test_the_page_shows_figures_warnings_provenance_and_configuration(report, robustness):
    history = {"val/clean_accuracy": [(1, 0.5), (2, 0.9)], "val/loss": [(1, 2.25)]}
    result = robustness(warnings=["Gradients look masked."], examples={"pgd": examples()})
    page = Outline(report(result, histories=history).read_text())
    words = " ".join(page.text.split())
    for expected in (
        "90.0%",
        "95% interval 82.6\N{EN DASH}94.5%",
        "45.0%",
        "Gradients look masked.",
        "0123456789abcdef, with uncommitted changes",
        "took 4 min 0 s",
        "torch 2.15.0",
        "seed: 7",
        "2.25",
    ):
        assert expected in words, expected


def test_every_image_is_a_real_file_beside_the_page_and_nothing_is_fetched(report, robustness):
    index = report(robustness(examples={"pgd": examples()}), histories={"val/accuracy": [(1, 0.5)]})
    files = {r for r in Outline(index.read_text()).references if r.endswith(".png")}
    assert files == {f"pictures/{path.name}" for path in (index.parent / "pictures").iterdir()}
    assert len(files) == 3
    assert set(json.loads((index.parent / "results.json").read_text())["sections"][0]["pictures"]) == {
        file.removeprefix("pictures/") for file in files
    }
    for file in files:
        with Image.open(index.parent / file) as image:
            assert image.convert("L").getextrema()[0] < 128, "something dark is drawn"
    assert not re.search(r"https?://", index.read_text())


def test_hostile_strings_stay_text(report, robustness):
    evil = '<script>alert("x")</script>'
    shown = {"examples": {evil: examples()}, "curves": {evil: [(0.1, 0.5)]}}
    attacks = [attack(evil, [30, 20])]
    result = robustness(title=evil, class_names=[evil, "$x$"], warnings=[evil], attacks=attacks, **shown)
    index = report(result, title=evil, config_yaml=f"name: {evil}</pre>", histories={evil + "accuracy": [(1, 0.5)]})
    outline = Outline(index.read_text())
    assert outline.tags.count("script") == 1, "that of the tables, and no other"
    assert outline.text.count(evil) >= 6
    assert all("<" not in path.name for path in (index.parent / "pictures").iterdir())


def test_a_baseline_stands_beside_the_run_with_its_difference(report, robustness, tmp_path):
    weak = {"attacks": [attack("pgd", [3, 2])], "worst_case_correct": 5, "worst_case_per_class": [3, 2]}
    report(robustness(**weak), folder="standard", title="Standard training")
    strong = {"attacks": [attack("pgd", [30, 20])]}
    index = report(robustness(**strong), baselines={"standard": tmp_path / "standard" / "results.json"})
    words = " ".join(Outline(index.read_text()).text.split())
    assert "Worst-case robust accuracy 45.0%35.6\N{EN DASH}54.8% 5.0%" in words
    assert "+40.0" in words
    kept = json.loads((index.parent / "results.json").read_text())["baselines"]["standard"]
    assert kept["title"] == "Standard training"
    assert kept["sections"][0]["scalars"]["pgd/robust_accuracy"] == 0.05


def test_a_baseline_attacked_otherwise_gets_no_difference(report, robustness, tmp_path):
    report(robustness(attacks=[attack("pgd", [30, 20], eps=0.1)]), folder="standard")
    index = report(robustness(attacks=[attack("pgd", [30, 20])]), baselines={"standard": tmp_path / "standard"})
    words = " ".join(Outline(index.read_text()).text.split())
    assert "measured otherwise PGD Linf eps 0.1" in words.replace("otherwisePGD", "otherwise PGD")


def test_what_no_baseline_has_is_not_compared(report, robustness, tmp_path):
    report(robustness(attacks=[attack("fgsm", [35, 25])]), folder="standard")
    baselines = {"standard": tmp_path / "standard"}
    words = Outline(report(robustness(), baselines=baselines).read_text()).text
    comparison = words.partition("Comparison with standard")[2].partition("Accuracy under attack")[0]
    assert "Robust accuracy, fgsm" in comparison
    assert "Robust accuracy, pgd" not in comparison
    none = Outline(report(robustness(stage="test"), baselines=baselines).read_text()).text
    assert "None of these figures was measured there." in none


def test_a_corrupt_baseline_stops_the_report_before_anything_is_written(report, robustness, tmp_path):
    (tmp_path / "other.json").write_text('{"schema": 1}')
    with pytest.raises(InputError, match=r"other\.json"):
        report(robustness(), baselines={"other": tmp_path / "other.json"})
    assert not (tmp_path / "report").exists()


def test_names_that_differ_only_in_odd_characters_keep_their_own_pictures(report, robustness):
    attacks = [attack("a b", [30, 20]), attack("a_b", [30, 20])]
    index = report(robustness(attacks=attacks, examples={"a b": examples(), "a_b": examples()}))
    assert len(list((index.parent / "pictures").iterdir())) == 6


def test_pictures_of_an_earlier_report_go_and_other_files_stay(report, robustness):
    index = report(robustness(examples={"pgd": examples(5)}))
    (index.parent / "pictures" / "mine.png").write_bytes(b"a user's own")
    report(robustness(examples={"pgd": examples(2)}))
    assert sum(1 for _ in (index.parent / "pictures").iterdir()) == 3


def test_a_self_contained_page_refers_to_nothing_but_itself(report, robustness):
    index = report(robustness(examples={"pgd": examples()}), self_contained=True)
    outline = Outline(index.read_text())
    assert {reference.partition(":")[0] for reference in outline.references if reference[0] != "#"} == {"data"}
    assert sum("image/png" in each for each in outline.references) == 3
    assert not (index.parent / "pictures").exists()


def test_a_page_says_in_words_what_its_pictures_show(report, robustness):
    shown = {"examples": {"pgd": examples()}, "curves": {"pgd": [(0.1, 0.7), (0.2, 0.5)]}}
    page = report(robustness(**shown), histories={"val/accuracy": [(1, 0.5), (2, 0.75)]}).read_text()
    assert 'alt="cat, clean, under attack and the difference of at most 0.2: ' in page
    assert "taken for cat 90%, then for dog 45%" in page
    assert "pgd (100 images): 90.0% to 50.0%." in page
    assert "val/accuracy: 50.0% to 75.0%." in page
    assert "<img" not in re.sub(r'<img [^>]*alt="\w[^"]*"[^>]*>', "", page)


def test_charts_are_drawn_in_the_colours_of_the_page_under_names_of_their_own(report, robustness):
    curves = {"curves": {"pgd": [(0.1, 0.7), (0.2, 0.5)]}}
    page = report(robustness(**curves), robustness(**curves), histories={"val/accuracy": [(1, 0.5)]}).read_text()
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(charts) == 5
    assert not any(re.search(r"#[0-9a-f]{6}", chart) for chart in charts)
    assert len(names) == len(set(names))
    referred = [name for chart in charts for name in re.findall(r'(?:href="|url\()#([^")]+)', chart)]
    assert referred
    assert set(referred) <= set(names)


def test_cells_of_tables_tell_what_they_sort_and_are_saved_by(report, robustness):
    page = report(robustness()).read_text()
    assert '<table data-name="Accuracy under attack">' in page
    assert '<td class="number" data-value="0.45"><span class="share" style="--share: 45.0%">45.0%</span></td>' in page
    assert '<td class="number" data-value="">\N{EN DASH}</td>' in page
    assert page.count("<table data-name=") == page.count("<table")


def test_of_many_attacks_the_pictures_of_the_strongest_stand_open(report, robustness):
    attacks = [attack("weak", [35, 25]), attack("strong", [30, 18]), attack("middle", [30, 20])]
    page = report(robustness(attacks=attacks, examples={each.name: examples() for each in attacks})).read_text()
    folded = re.findall(r"<details>\s*<summary>Images under (\w+)", page)
    assert (re.findall(r"<h3>Images under (\w+)", page), folded) == (["strong"], ["middle", "weak"])


def test_a_second_report_replaces_the_first_and_leaves_nothing_behind(report, robustness):
    report(robustness(), title="First")
    index = report(robustness(), title="Second")
    assert "Second" in index.read_text()
    assert not list(index.parent.rglob("*.tmp"))


def test_a_report_without_results_is_still_a_page(report):
    assert "not known" not in Outline(report().read_text()).text


def test_a_window_is_named_by_title_model_and_data(report, provenance):
    run = replace(provenance, model="lenet", data="MNIST")
    assert "<title>Under attack · lenet on MNIST</title>" in report(title="Under attack", run=run).read_text()
    assert "<title>lenet on MNIST</title>" in report(title="lenet on MNIST", run=run).read_text()
