"""What was measured once is not measured again."""

import pytest
import torch

from experiments.kept import Kept


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
