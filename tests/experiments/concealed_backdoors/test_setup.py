"""The cells of the paper's tables and the settings they are measured with."""

from dataclasses import replace

import pytest
import torch

from experiments.concealed_backdoors.measure import in_order
from experiments.concealed_backdoors.models import subject_of
from experiments.concealed_backdoors.setup import SETTINGS, TABLES, Cell, cells_of


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
