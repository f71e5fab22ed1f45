"""What was measured once is not measured again."""

import json

import pytest
import torch

from experiments.kept import Kept, content
from experiments.origin import code, noted


def test_figures_and_tensors_are_made_once(tmp_path, capsys):
    made = []

    def make():
        made.append(1)
        return {"shares": [0.5, None]}

    for _ in range(2):
        assert Kept(tmp_path / "run").figures("pgd, eps 0.1", make) == {"shares": [0.5, None]}
        assert Kept(tmp_path / "run").tensors("images", lambda: made.append(2) or torch.ones(2)).tolist() == [1, 1]
    assert made == [1, 2]
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["images.pt", "pgd_eps_0.1.json"]
    assert "pgd, eps 0.1" in capsys.readouterr().out


def test_what_fails_leaves_nothing_and_fresh_measures_again(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Kept(tmp_path).figures("rate", lambda: 1 / 0)
    assert not [*tmp_path.iterdir()]
    assert Kept(tmp_path).figures("rate", lambda: 1) == 1
    assert Kept(tmp_path).figures("rate", lambda: 2) == 1
    assert Kept(tmp_path, fresh=True).figures("rate", lambda: 3) == 3


def test_what_is_kept_has_its_origin_with_it_and_what_is_read_is_noted(tmp_path):
    noted()
    for _ in range(2):
        assert Kept(tmp_path).figures("rate", lambda: 1, setting="PGD(eps=0.1)") == 1
        assert Kept(tmp_path).tensors("images", lambda: torch.ones(2)).tolist() == [1, 1]
    record = json.loads((tmp_path / "rate.json").read_text())
    made, *_, again = noted()
    assert record["origin"] == made.as_dict()
    assert (made.commit, made.setting) == (code().commit, "PGD(eps=0.1)")
    assert made.at <= again.at
    assert noted() == []


def test_a_figure_of_another_setting_is_measured_again(tmp_path):
    assert Kept(tmp_path).figures("rate", lambda: 1, setting="100 images") == 1
    assert Kept(tmp_path).figures("rate", lambda: 2, setting="200 images") == 2
    assert Kept(tmp_path).figures("rate", lambda: 3, setting="200 images") == 2


def test_a_record_without_an_origin_is_read_and_its_commit_is_unknown(tmp_path):
    noted()
    (tmp_path / "rate.json").write_text("[1, 2]")
    assert Kept(tmp_path).figures("rate", lambda: 1) == [1, 2] == content([1, 2])
    assert [each.commit for each in noted()] == [None, None]
