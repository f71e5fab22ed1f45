import csv
import json
from dataclasses import replace

import pytest

from lightning_adv.cli import leaderboard, program
from lightning_adv.errors import InputError
from lightning_adv.reports.leaderboard import boards, find_results, write_leaderboard
from lightning_adv.reports.storage import as_json, results_document, section_document
from tests.reports.test_html import Outline
from tests.results.samples import attack

ABSENT = object()
CALLED = {"a": "pgd", "b": "madry"}


@pytest.fixture
def saved(tmp_path, provenance, robustness):
    """Writes a run's results.json; what is not given is a run on MNIST that attacks with pgd at eps 0.2."""

    def save(name, *results, title="A run", **changed):
        sections = [section_document(each, []) for each in results or [robustness(attacks=[attack("pgd", [30, 20])])]]
        document = results_document(title, provenance, sections, {}, {})
        run = document["run"] | {"data": "MNIST"} | changed
        document["run"] = {key: value for key, value in run.items() if value is not ABSENT}
        folder = tmp_path / "runs" / name / "report"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_bytes(as_json(document))
        return folder / "results.json"

    return save


def shares(board):
    """Name of each entry, in order, to its shares column by column."""
    found = {each.name: [each.figures.get(column.description) for column in board.columns] for each in board.entries}
    return {name: [figure and figure.share for figure in row] for name, row in found.items()}


def test_the_same_attack_on_the_same_images_is_one_column_whatever_it_is_called(saved, robustness):
    mine = replace(attack("pgd", [30, 20], eps=8 / 255), description="PGD(eps=8/255, steps=20)")
    runs = {name: saved(name, robustness(attacks=[replace(mine, name=called)])) for name, called in CALLED.items()}
    (board,) = boards(runs)
    assert [column.title for column in board.columns] == ["Clean", "PGD Linf 8/255"]
    assert shares(board) == {"a": [0.9, 0.5], "b": [0.9, 0.5]}
    assert [each.called for each in board.entries] == [{mine.description: "pgd"}, {mine.description: "madry"}]


def test_another_setting_is_another_column(saved, robustness):
    other = robustness(attacks=[attack("pgd", [35, 25], eps=0.1)])
    (board,) = boards({"a": saved("a"), "b": saved("b", other)}, sort="run")
    assert shares(board) == {"a": [0.9, 0.5, None], "b": [0.9, None, 0.6]}


@pytest.mark.parametrize(
    "other", [{"data": "FashionMNIST"}, {"preparation": "224 x 224 pixels"}, {"data": None}, {"data": ABSENT}]
)
def test_other_images_are_another_table(saved, other):
    assert len(boards({"a": saved("a"), "b": saved("b", **other)})) == 2


def test_runs_that_do_not_tell_their_images_compare_with_none(saved):
    assert len(boards({name: saved(name, data=None) for name in "ab"})) == 2


def test_the_worst_case_over_the_same_attacks_is_a_column_in_any_order(saved, robustness):
    fgsm, pgd = attack("fgsm", [35, 25]), attack("pgd", [30, 20])
    one, two = robustness(attacks=[fgsm, pgd]), robustness(attacks=[pgd, fgsm])
    (board,) = boards({"a": saved("a", one), "b": saved("b", two)})
    assert shares(board) == {"a": [0.9, 0.6, 0.5, 0.45], "b": [0.9, 0.6, 0.5, 0.45]}
    assert board.columns[-1].title == "Worst of 2"


def test_the_best_stand_first_under_the_attack_that_most_have_met_and_what_was_not_measured_last(saved, robustness):
    weak, strange = ([attack("pgd", [10, 10])], [attack("fgsm", [35, 25])])
    runs = {"weak": saved("w", robustness(attacks=weak, worst_case_correct=20, worst_case_per_class=[10, 10]))}
    runs |= {"strange": saved("s", robustness(attacks=strange)), "strong": saved("t")}
    (board,) = boards(runs)
    assert list(shares(board)) == ["strong", "weak", "strange"]
    (board,) = boards(runs, sort="fgsm")
    assert next(iter(shares(board))) == "strange"
    with pytest.raises(InputError, match="no column has these words; there are run, Clean, PGD"):
        boards(runs, sort="cw")


def test_of_two_attacks_that_differ_in_nothing_but_their_seed_the_worse_counts(saved, robustness):
    first, second = attack("pgd", [35, 25]), replace(attack("pgd", [30, 20]), name="again")
    for pair in ([first, second], [second, first]):
        (board,) = boards({"a": saved("a", robustness(attacks=pair))})
        assert shares(board)["a"][1] == 0.5


def test_an_interval_is_that_of_the_counts_and_not_of_the_file(saved):
    file = saved("a")
    document = json.loads(file.read_text())
    document["sections"][0]["data"]["attacks"][0] |= {"robust_accuracy": 0.99, "interval": [0.98, 1.0]}
    file.write_text(json.dumps(document))
    (board,) = boards({"a": file})
    figure = board.entries[0].figures[board.columns[1].description]
    assert (figure.share, figure.interval) == (0.5, pytest.approx((0.4038, 0.5962), abs=1e-3))


def test_flags_say_what_makes_a_figure_unreliable(saved, robustness, provenance):
    said = {"mean": [0.1], "std": [0.3], "origin": "the data", "assumed": True}
    changed = {"ended": "interrupted", "finished": None, "cuts": ["attacks: 10,000 images to 100"]}
    file = saved("a", robustness(warnings=["Gradients look masked."], draws=4), normalisation=said, **changed)
    (board,) = boards({"a": file})
    flags = dict(board.entries[0].flags)
    assert list(flags) == ["not finished", "cut", "few images", "randomised", "normalisation assumed", "warning"]
    assert "10,000 images to 100" in flags["cut"]
    assert flags["warning"] == "Gradients look masked."


def test_the_table_has_a_line_for_every_figure_with_its_provenance(saved, tmp_path):
    said = {"mean": [0.1], "std": [0.3], "origin": "mu, sigma", "assumed": False}
    file = saved("a", weights={"net.pt": "f00d"}, model="lenet", normalisation=said)
    write_leaderboard(tmp_path / "board", {"a": file})
    clean, pgd = csv.DictReader((tmp_path / "board" / "leaderboard.csv").read_text().splitlines())
    assert (clean["attack"], clean["accuracy"], clean["images"]) == ("Clean", "0.9", "100")
    assert (pgd["description"], pgd["norm"], pgd["eps"], pgd["correct"]) == ("PGD Linf eps 0.2", "Linf", "0.2", "50")
    assert (pgd["weights"], pgd["model"], pgd["commit"]) == ("net.pt f00d", "lenet", "0123456789abcdef")
    assert "mu, sigma" in pgd["normalisation"]


EVIL = '=cmd()<script>alert("x")</script>'


def test_a_strangers_words_stay_text_on_the_page_and_in_the_table(saved, robustness, tmp_path):
    row = attack("pgd", [30, 20])
    hostile = replace(row, name=EVIL, description=EVIL)
    words = {"data": EVIL, "model": EVIL, "weights": {EVIL: EVIL}, "cuts": [EVIL], "commit": EVIL}
    said = {"mean": [0.1], "std": [0.3], "origin": EVIL, "assumed": True}
    file = saved("a", robustness(attacks=[hostile], warnings=[EVIL]), title=EVIL, normalisation=said, **words)
    page = Outline(write_leaderboard(tmp_path / "board", {EVIL: file}).read_text())
    assert page.tags.count("script") == 1
    assert page.text.count(EVIL) >= 9
    for line in csv.DictReader((tmp_path / "board" / "leaderboard.csv").read_text().splitlines()):
        assert not [cell for cell in line.values() if cell.startswith("=")]


def damaged(document, place, value):
    *path, last = place
    for key in path:
        document = document[key]
    document[last] = value


ROW = ("sections", 0, "data", "attacks", 0)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("run", "started"), "yesterday"),
        (("run", "started"), "2026-11-21T03:00:00"),
        (("run", "commit"), 7),
        (("run", "weights"), {"net.pt": 1}),
        (("run", "cuts"), [None]),
        (("run", "machine"), {}),
        (("run", "normalisation"), {"mean": ["a"], "std": [1], "origin": "", "assumed": False}),
        (("sections", 0, "warnings"), [{}]),
        (("sections", 0, "data", "samples"), 0),
        (("sections", 0, "data", "clean_correct"), 101),
        ((*ROW, "robust_correct"), -1),
        ((*ROW, "samples"), 99),
        ((*ROW, "eps"), 10**400),
        ((*ROW, "description"), None),
        (("title",), "half a character \ud800"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(saved, place, value, capsys, tmp_path):
    file = saved("a")
    document = json.loads(file.read_text())
    damaged(document, place, value)
    file.write_text(json.dumps(document))
    with pytest.raises(SystemExit) as end:
        leaderboard([str(file), "--output", str(tmp_path / "board")])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(file) in said
    assert not (tmp_path / "board").exists()


def test_results_are_found_in_files_reports_runs_and_folders_of_runs_and_named_by_what_differs(saved, tmp_path):
    a, b = saved("x/a"), saved("x/b")
    assert find_results([tmp_path / "runs"]) == {"a": a, "b": b}
    assert find_results([a, b.parent, b.parent.parent, tmp_path]) == {"a": a, "b": b}
    assert find_results([a]) == {"a": a}
    bare = b.parent.parent / "results.json"
    bare.write_bytes(b.read_bytes())
    assert list(find_results([a, b, bare])) == ["a", str(b), str(bare)]
    with pytest.raises(InputError, match="of a report is there"):
        find_results([tmp_path / "nowhere"])


def test_a_run_without_accuracies_is_no_board(saved, tmp_path):
    document = json.loads(saved("a").read_text()) | {"sections": []}
    (tmp_path / "results.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="no accuracy under attack"):
        boards({"a": tmp_path})


def test_the_command_writes_the_page_and_links_the_reports(saved, tmp_path, capsys):
    file = saved("a")
    (file.parent / "index.html").touch()
    leaderboard([str(file), "--output", str(tmp_path / "board")])
    page = tmp_path / "board" / "index.html"
    assert capsys.readouterr().out == f"leaderboard: {page}\n"
    (link, *_) = (each for each in Outline(page.read_text()).references if each.endswith("index.html"))
    assert (page.parent / link).resolve() == (file.parent / "index.html").resolve()


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        program(["leaderboard", "--order", "clean"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
