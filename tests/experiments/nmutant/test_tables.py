"""Tables of the nMutant experiment, from measures made up."""

import pytest
import torch

from experiments.nmutant.samples import KINDS
from experiments.nmutant.tables import area_table, over_mu, sprt_table, strength_table, transfer_table, verdict_table


def test_the_table_of_strengths_has_the_area_of_each_attack():
    cell = {"distance": 1.0, "margin": 2.0}
    found = {
        "normal": cell | {"rates": [0.0, 0.1]},
        "above": cell | {"rates": [0.2, 0.3]},
        "half": cell | {"rates": [0.0, 0.1]},
    }
    rows = strength_table("MNIST", "affine", found).rows
    assert [row[-1] for row in rows] == [None, 1.0, 0.5]
    assert [row[1] for row in rows] == [2, 2, 2]


def test_areas_are_of_all_samples_each_held_out_once():
    index = torch.arange(400).double()[:, None]
    normal, far = torch.cat([index, torch.zeros(400, 1)], 1), torch.cat([index, torch.ones(400, 1)], 1)
    mixed = torch.cat([index, (torch.arange(400) % 2).double()[:, None]], 1)
    kinds = {"normal": normal, **dict.fromkeys(KINDS, far), KINDS[-1]: mixed[:100]}
    rows = area_table("MNIST", {"LCR": kinds}).rows
    assert [cell.split()[0] for cell in rows[0][1:5]] == ["1.0000"] * 4
    assert rows[0][5].startswith("0.7")  # half of them are like normal ones: .5 in place of 1
    assert rows[0][6] == 1.0
    assert "400 black_box, 100 wrongly_labelled;" in area_table("MNIST", {"LCR": kinds}).note


def test_a_detector_fitted_on_one_kind_is_asked_about_the_others():
    index = torch.arange(400).double()[:, None]
    low = index[:, 0] * 0.001
    kinds = {
        "normal": torch.stack([index[:, 0], low], 1),
        **dict.fromkeys(KINDS, torch.stack([index[:, 0], 1 + low], 1)),
    }
    kinds["cw"] = torch.stack([index[:, 0], 0.05 + low], 1)  # among the normal ones, below where the others begin
    rows = {row[0]: row[1:] for row in transfer_table("MNIST", {"LCR": kinds}).rows}
    assert rows["LCR, fitted on fgsm"] == [1.0, 1.0, 0.5, 1.0, 1.0]
    assert rows["LCR, fitted on cw"][0] > 0.5


def test_verdicts_are_those_of_the_test_where_a_detector_has_one_and_figure_3_is_of_one_operator():
    index = torch.arange(400).double()[:, None]
    alike = {kind: torch.cat([index, index % 2], 1) for kind in ("normal", *KINDS)}
    judged = {"kappa_1": 0.01, "mu": 2.0, "samples": 10, "undecided": 1, "mutations": 30.0}
    test = {"normal": judged | {"suspicious": 1}, **dict.fromkeys(KINDS, judged | {"suspicious": 9})}
    table = verdict_table("MNIST", {"LCR, affine": alike, "MU": alike}, {"LCR, affine": test})
    assert [row[0] for row in table.rows] == ["LCR, affine", "MU"]
    assert table.rows[0][1:4] == pytest.approx([0.9, 0.9, 0.9])
    assert "LCR, affine: kappa_1 0.01, mu 2" in table.note
    tests = {("affine", "wald", 1.1): test, ("affine", "paper", 1.1): test}
    rows = sprt_table("MNIST", tests).rows
    assert rows[0] == ["affine: wald, mu 2", "normal", 10, 0.9, 30.0, None, 1]
    assert rows[-1] == ["affine: paper, mu 2", KINDS[-1], 10, 0.9, 30.0, 60.0, 1], "which counts each twice"
    rightly, mutations = over_mu((1.1,), "affine", tests)
    assert rightly == {kind: [0.9] for kind in ("normal", *KINDS)}
    assert mutations["normal"] == [30.0]
