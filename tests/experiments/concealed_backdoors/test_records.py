"""A fresh checkout goes on from the records, and a run folder holds what one setting measured."""

import shutil
import sys
from dataclasses import replace

import pytest

from experiments.concealed_backdoors.__main__ import main
from experiments.concealed_backdoors.measure import kept
from experiments.concealed_backdoors.pictures import found_triggers
from experiments.records import claim, read_records, restore_records, write_records
from lightning_adv.errors import InputError
from tests.experiments.concealed_backdoors.measured import RECONSTRUCTED, found_in


def test_a_fresh_checkout_goes_on_from_the_records(run, setting, tmp_path):
    words, found = {"MNIST": setting.in_words}, read_records(run, "*/*/*.json")
    write_records(tmp_path / "records.json", words, found)
    fresh = tmp_path / "fresh"
    assert restore_records(tmp_path / "records.json", words, fresh) == len(found)
    assert read_records(fresh, "*/*/*.json") == found, "each with its origin"
    assert restore_records(tmp_path / "records.json", words, fresh) == 0  # nothing is missing any more
    assert kept(RECONSTRUCTED, 0, setting, "unused", fresh) == found["MNIST/reconstructed_rate0.6/0.json"]["made"]
    assert found_triggers(fresh, "MNIST", 2) is None  # the triggers stayed behind
    kept(RECONSTRUCTED, 1, setting, "unused", fresh)
    assert (fresh / "MNIST" / "clean" / "1.json").is_file()


def test_a_clean_model_is_measured_again_where_only_its_figures_were_kept(run, setting, tmp_path):
    (tmp_path / "MNIST" / "clean").mkdir(parents=True)
    shutil.copy(run / "MNIST" / "clean" / "0.json", tmp_path / "MNIST" / "clean")
    again, before = kept(RECONSTRUCTED, 0, setting, "unused", tmp_path), found_in(run)
    assert again["neural_cleanse"] == before["MNIST/reconstructed_rate0.6/0.json"]["neural_cleanse"]


def test_records_of_other_settings_are_left_out(run, setting, tmp_path):
    write_records(tmp_path / "records.json", {"MNIST": setting.in_words}, read_records(run, "*/*/*.json"))
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
    for module in ("concealed_backdoors.__main__", "page"):  # whatever it does, it leaves the project's own pages alone
        monkeypatch.setattr(f"experiments.{module}.RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["concealed_backdoors", "--run", str(run), "--page", "--draft"])
    with pytest.raises(SystemExit):
        main()
    assert "another setting" in capsys.readouterr().err.splitlines()[-1]
