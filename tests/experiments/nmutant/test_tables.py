"""Tables of the nMutant experiment, from measures made up."""

import torch

from experiments.nmutant.samples import KINDS
from experiments.nmutant.tables import area_table, strength_table, transfer_table


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
