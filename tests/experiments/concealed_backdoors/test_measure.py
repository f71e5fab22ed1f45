"""A cell is measured once, kept, drawn, and inspected again."""

import json
import shutil
from functools import partial

import pytest

from experiments.concealed_backdoors.measure import authors_budget, kept, measure
from experiments.concealed_backdoors.pictures import found_triggers
from experiments.concealed_backdoors.tables import PARTS, all_tables
from experiments.kept import content
from lightning_adv.inspectors import NeuralCleanse
from tests.experiments.concealed_backdoors.measured import RECONSTRUCTED, found_in


def test_a_cell_is_measured_with_the_clean_model_that_it_needs(run):
    found = found_in(run)
    assert set(found) == {"MNIST/clean/0.json", "MNIST/reconstructed_rate0.6/0.json"}
    cell = found["MNIST/reconstructed_rate0.6/0.json"]
    for share in ("attack_success_rate", "clean_accuracy", "strip_auroc"):
        assert 0 <= cell[share] <= 1
    assert len(cell["neural_cleanse"]["norms"]) == 10
    assert {"clean_accuracy", "attack_success_rate", "pruned"} <= cell["fine_pruning"].keys()
    assert cell["unlearning"]["unlearnt"]


def test_what_was_measured_is_not_measured_again(run, setting, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    path = run / "MNIST" / RECONSTRUCTED.name / "0.json"
    marked = content(json.loads(path.read_text())) | {"clean_accuracy": 0.123}
    path.write_text(json.dumps(marked))
    assert kept(RECONSTRUCTED, 0, setting, "unused", run)["clean_accuracy"] == 0.123


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


def test_a_model_that_was_kept_can_be_inspected_with_the_authors_budget(run, setting, monkeypatch, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr("experiments.concealed_backdoors.measure.NeuralCleanse", partial(NeuralCleanse, steps=3))
    for _ in range(2):
        authors_budget(RECONSTRUCTED, 0, setting, "unused", run)
    table = next(t for t in all_tables(found_in(run)) if t.title == "The same models at the authors' budget")
    assert [row[:3] for row in table.rows] == [["MNIST, reconstructed rate0.6", b, 1] for b in ("ours", "the authors'")]
