"""The concealed-backdoor experiment measures a cell, keeps it, and writes the paper's tables from what there is."""

import json
import shutil
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from experiments.concealed_backdoors import QUICK, authors_budget, in_order, kept, main, measure, quick
from experiments.concealed_models import subject_of
from experiments.concealed_pictures import found_triggers
from experiments.concealed_setup import SETTINGS, TABLES, Cell, cells_of
from experiments.concealed_tables import PARTS, all_tables, budgets
from experiments.page import markdown
from experiments.records import claim, restore_records, write_records
from lightning_adv.data import MNISTSubset
from lightning_adv.errors import InputError
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.mitigations import FinePruning, NeuralCleanseUnlearning

RECONSTRUCTED = Cell("MNIST", "reconstructed", 0.6)


@pytest.fixture(scope="module", autouse=True)
def short_repairs():
    """One epoch of each: what is asked here is what becomes of the figures."""
    with pytest.MonkeyPatch.context() as patch:
        for repair in (FinePruning, NeuralCleanseUnlearning):
            patch.setattr(f"experiments.concealed_backdoors.{repair.__name__}", partial(repair, epochs=1))
        yield


@pytest.fixture(scope="module")
def setting():
    """The quick budget on the digits that come with a package."""
    few = {"arguments": QUICK | {"max_train_samples": 600}, "poisoned": 60, "epochs": 2, "samples": 20}
    budget = {"cleanse": {"steps": 20, "images_per_step": 32}, "inspect": {"steps": 2, "images_per_step": 32}}
    return replace(quick(SETTINGS["MNIST"]), images=MNISTSubset, **few, **budget)


@pytest.fixture(scope="module")
def run(setting, tmp_path_factory):
    """A folder with one repeat of a cell, and of the clean model whose trigger it takes."""
    folder = tmp_path_factory.mktemp("run")
    kept(RECONSTRUCTED, 0, setting, "unused", folder)
    return folder


def found_in(folder):
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.glob("*/*/*.json")}


def test_a_cell_is_measured_with_the_clean_model_that_it_needs(run):
    found = found_in(run)
    assert set(found) == {"MNIST/clean/0.json", "MNIST/reconstructed_rate0.6/0.json"}
    cell = found["MNIST/reconstructed_rate0.6/0.json"]
    for share in ("attack_success_rate", "clean_accuracy", "strip_auroc"):
        assert 0 <= cell[share] <= 1
    assert len(cell["neural_cleanse"]["norms"]) == 10
    assert {"clean_accuracy", "attack_success_rate", "pruned"} <= cell["fine_pruning"].keys()
    assert cell["unlearning"]["unlearnt"]


def test_what_was_measured_is_not_measured_again(run, setting):
    path = run / "MNIST" / RECONSTRUCTED.name / "0.json"
    marked = json.loads(path.read_text()) | {"clean_accuracy": 0.123}
    path.write_text(json.dumps(marked))
    assert kept(RECONSTRUCTED, 0, setting, "unused", run)["clean_accuracy"] == 0.123


def test_the_tables_say_how_many_repeats_there_are_beside_the_papers_figures(run):
    tables = all_tables(found_in(run))
    assert [table.title.split(":")[0] for table in tables] == [
        "Table 1",
        "Controls",
        "Why a trigger is found",
        "Other defences",
    ]
    (row,) = tables[0].rows
    assert row[:2] == ["rate 0.6", 1]
    assert "(99.9%)" in row[2]
    assert row[5].endswith("(90%)")
    assert "of 1" in row[5]
    assert "Fine-Pruning" in markdown(tables[-1])
    assert "steps 150" in budgets(SETTINGS)


def test_evasion_counts_the_repeats_in_which_the_target_is_not_flagged():
    def repeat(flagged):
        verdict = {"flagged": flagged, "significant": [], "norm": 1.0, "median": 2.0}
        repaired = {"clean_accuracy": 1.0, "attack_success_rate": 0.0}
        shares = {"clean_accuracy": 0.9, "attack_success_rate": 1.0, "strip_auroc": 0.5, "mask_pixels": 36.0}
        defences = {"fine_pruning": repaired, "unlearning": repaired}
        return {"neural_cleanse": verdict, "deep_inspect": verdict, **shares, **defences}

    flags = [[2], [], [5], [2, 7], []]
    found = {f"MNIST/random_rate0.6_z36/{number}.json": repeat(each) for number, each in enumerate(flags)}
    (row,) = all_tables(found)[0].rows
    assert row[5].startswith("3 of 5")  # nothing flagged, or another class
    assert row[6].startswith("2 of 5")


def test_the_controls_judge_deep_inspects_norms_on_both_scales():
    norms = [100.0, 90, 0.5, 80, 78, 50, 45, 44, 85]
    flags = {"flagged": [2], "significant": [2], "norms": norms}
    repeat = {"neural_cleanse": flags, "deep_inspect": flags, "clean_accuracy": 0.9, "attack_success_rate": 1.0}
    rows = next(t.rows for t in all_tables({"MNIST/clean/0.json": repeat}) if t.title.startswith("Controls"))
    assert [row[1] for row in rows] == ["Neural Cleanse", "DeepInspect", "DeepInspect, its paper's scale"]
    assert [row[5][:6] for row in rows] == ["1 of 1", "1 of 1", "0 of 1"]


def test_what_is_hidden_is_drawn_beside_what_was_found(run):
    assert len(found_triggers(run, "MNIST", 2).axes) == 2 * 6  # clean and reconstructed: hidden, target, four others
    assert found_triggers(run, "GTSRB", 33) is None


def test_a_part_of_the_trigger_is_less_than_the_whole_and_the_found_one_is_laid_over_it(run):
    cell = found_in(run)["MNIST/reconstructed_rate0.6/0.json"]
    assert all(len(shares) == len(PARTS) for shares in cell["partly"].values())
    assert cell["partly"]["own"][-1] == pytest.approx(cell["attack_success_rate"], abs=0.05)
    recovered = cell["recovered"]
    assert recovered["common_pixels"] <= min(recovered["pixels"], recovered["true_pixels"])


def test_weights_are_kept_and_taken_again(run, setting):
    path = run / "MNIST" / RECONSTRUCTED.name / "weights_0.safetensors"
    written, cell = path.stat().st_mtime_ns, found_in(run)["MNIST/reconstructed_rate0.6/0.json"]
    again = measure(RECONSTRUCTED, 0, setting, "unused", run)
    assert path.stat().st_mtime_ns == written
    assert again["neural_cleanse"]["norms"] == cell["neural_cleanse"]["norms"]
    assert again["attack_success_rate"] == cell["attack_success_rate"]


def test_a_model_that_was_kept_can_be_inspected_with_the_authors_budget(run, setting, monkeypatch):
    monkeypatch.setattr("experiments.concealed_backdoors.NeuralCleanse", partial(NeuralCleanse, steps=3))
    for _ in range(2):
        authors_budget(RECONSTRUCTED, 0, setting, "unused", run)
    table = next(t for t in all_tables(found_in(run)) if t.title == "The same models at the authors' budget")
    assert [row[:3] for row in table.rows] == [["MNIST, reconstructed rate0.6", b, 1] for b in ("ours", "the authors'")]


def test_a_fresh_checkout_goes_on_from_the_records(run, setting, tmp_path):
    words, found = {"MNIST": setting.in_words}, found_in(run)
    write_records(tmp_path / "records.json", words, found)
    fresh = tmp_path / "fresh"
    assert restore_records(tmp_path / "records.json", words, fresh) == len(found)
    assert found_in(fresh) == found
    assert restore_records(tmp_path / "records.json", words, fresh) == 0  # nothing is missing any more
    assert kept(RECONSTRUCTED, 0, setting, "unused", fresh) == found["MNIST/reconstructed_rate0.6/0.json"]
    assert found_triggers(fresh, "MNIST", 2) is None  # the triggers stayed behind
    kept(RECONSTRUCTED, 1, setting, "unused", fresh)
    assert (fresh / "MNIST" / "clean" / "1.json").is_file()


def test_a_clean_model_is_measured_again_where_only_its_figures_were_kept(run, setting, tmp_path):
    (tmp_path / "MNIST" / "clean").mkdir(parents=True)
    shutil.copy(run / "MNIST" / "clean" / "0.json", tmp_path / "MNIST" / "clean")
    again, before = kept(RECONSTRUCTED, 0, setting, "unused", tmp_path), found_in(run)
    assert again["neural_cleanse"] == before["MNIST/reconstructed_rate0.6/0.json"]["neural_cleanse"]


def test_records_of_other_settings_are_left_out(run, setting, tmp_path):
    write_records(tmp_path / "records.json", {"MNIST": setting.in_words}, found_in(run))
    other = {"MNIST": replace(setting, epochs=3).in_words}
    assert restore_records(tmp_path / "records.json", other, tmp_path / "fresh") == 0
    assert restore_records(tmp_path / "none.json", other, tmp_path / "fresh") == 0


def test_a_folder_holds_what_one_setting_measured(run, setting, tmp_path):
    other = replace(setting, epochs=3)
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "setting.txt.1.part").touch()  # of a process that does the same
    for _ in range(2):
        claim(tmp_path / "MNIST", setting.in_words)
    with pytest.raises(InputError, match=r"another setting .*epochs 2.* now .*epochs 3.*--run"):
        claim(tmp_path / "MNIST", other.in_words)
    with pytest.raises(InputError, match="unknown"):
        claim(run / "MNIST", setting.in_words)


def test_a_run_folder_of_another_setting_is_refused_in_one_line(run, tmp_path, monkeypatch, capsys):
    for module in ("concealed_backdoors", "page"):  # whatever it does, it leaves the project's own pages alone
        monkeypatch.setattr(f"experiments.{module}.RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["concealed_backdoors", "--run", str(run), "--page"])
    with pytest.raises(SystemExit):
        main()
    assert "another setting" in capsys.readouterr().err.splitlines()[-1]


def test_a_setting_in_words_stays_the_same_when_a_choice_is_added():
    words = SETTINGS["MNIST"].in_words
    assert "epochs 4" in words
    assert "cover_copies True" in words
    assert "decay" not in words
    assert replace(SETTINGS["MNIST"], decay=0.5).in_words == f"{words}, decay 0.5"


def test_the_learning_rate_falls_to_nothing_at_the_end(setting, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def noted(self):
        rates.append(self.param_groups[0]["lr"])
        return step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    subject_of(Cell("MNIST", "clean"), 0, replace(setting, decay=0.5), "unused", tmp_path)
    half = len(rates) // 2
    assert rates[: half + 1] == [1e-3] * (half + 1)
    assert rates[half:] == pytest.approx([1e-3 * (1 - each / half) for each in range(half)])


def test_headlines_of_all_data_come_before_the_other_cells_and_every_row_of_the_paper_is_there():
    order = list(in_order(["MNIST", "GTSRB"], 2, False))
    first = [cell for cell, _ in order[: 2 * 4]]
    assert first == [*cells_of("MNIST", True), *cells_of("GTSRB", True)]
    cells = {cell for name in SETTINGS for cell in cells_of(name)}
    assert cells >= {row.cell for table in TABLES for row in table.rows}
    assert sum(len(table.rows) for table in TABLES) == 27
