"""What the paper leaves open is varied, and changes what it says."""

import shutil
from dataclasses import replace

import pytest
import torch

from experiments.concealed_backdoors.grid import combine, grid_table
from experiments.concealed_backdoors.models import Bernoulli, clean_triggers, subject_of
from experiments.concealed_backdoors.setup import GRID, SETTINGS, Cell
from lightning_adv.backdoors import RandomPattern
from lightning_adv.models import statistics_of
from tests.experiments.concealed_backdoors.measured import RECONSTRUCTED, found_in


def test_every_combination_is_there_once_and_one_is_that_of_the_page():
    assert len({each.in_words for each in GRID.values()}) == len(GRID) == 8
    assert GRID["normalised_exact_added"] == SETTINGS["MNIST"]


def test_cover_pixels_are_drawn_one_by_one():
    trigger, x, number = RandomPattern(36, seed=0), torch.rand(400, 1, 28, 28), torch.arange(400)
    support = trigger.support((1, 28, 28))
    exact, drawn = (each.cover(x, 0.6, 0, number) for each in (trigger, Bernoulli(trigger)))
    shown = [((each == trigger(x)) & (each != x))[:, support].sum(dim=1) for each in (exact, drawn)]
    assert shown[0].max() == round(0.6 * 36)
    counts = shown[1].double()
    assert counts.mean() == pytest.approx(0.6 * 36, abs=4 * (0.24 * 36 / 400) ** 0.5 + 0.2)
    assert counts.var() == pytest.approx(0.24 * 36, rel=0.4)
    assert torch.equal(drawn[:, ~support], x[:, ~support])


def test_a_network_of_raw_pixels_is_not_normalised(setting, tmp_path):
    model = subject_of(Cell("MNIST", "clean"), 0, replace(setting, raw=True, epochs=0), "unused", tmp_path)[2]
    seen = statistics_of(model)
    assert (list(seen.mean), list(seen.std)) == ([0.0], [pytest.approx(1 / 255)])


def test_a_combination_takes_what_has_no_cover_images_from_the_plain_one(run, setting, tmp_path, monkeypatch):
    plain, other = "normalised_exact_added", "normalised_bernoulli_added"
    monkeypatch.setitem(GRID, plain, setting)
    monkeypatch.setitem(GRID, other, replace(setting, bernoulli=True))
    shutil.copytree(run, tmp_path / plain)
    combine(Cell("MNIST", "clean"), 0, other, "nowhere", tmp_path)
    assert not (tmp_path / other).exists()
    monkeypatch.setattr("experiments.concealed_backdoors.grid.kept", lambda *given: measured.append(given))
    measured = []
    combine(RECONSTRUCTED, 0, other, "nowhere", tmp_path)
    assert measured == [(RECONSTRUCTED, 0, GRID[other], "nowhere", tmp_path / other)]
    ours, theirs = (clean_triggers(RECONSTRUCTED, 0, tmp_path / name).read_bytes() for name in (other, plain))
    assert ours == theirs


def test_a_combination_that_was_measured_has_a_row(run):
    table = grid_table({"raw_exact_added": found_in(run)})
    assert [row[:3] for row in table.rows] == [["raw, exact, added", RECONSTRUCTED.name.replace("_", " "), 1]]
