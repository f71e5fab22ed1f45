"""The nMutant experiment on a classifier whose boundary is known."""

import torch
from torch import nn

from experiments.nmutant import PLANS, STRENGTH, _strengths, quick
from experiments.nmutant_cells import Cells
from experiments.nmutant_repeats import CANDIDATES, seeds_table
from experiments.nmutant_samples import KINDS, SETTINGS, InBfloat16, Samples
from experiments.nmutant_tables import area_table, strength_table, transfer_table
from lightning_adv.detectors import UniformMutation


def halves() -> nn.Module:
    """Left against right: the margin is their difference."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    model[1].weight.data = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4) * torch.tensor([[1.0], [-1.0]])
    return model


def test_strengths_tell_near_samples_from_far_ones_and_are_kept(tmp_path):
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    cells = Cells(tmp_path, {"normal": Samples(images, torch.arange(100, 130))})
    found = _strengths(cells, SETTINGS["CIFAR10"], "uniform", UniformMutation(0.02), halves())
    assert list(found) == ["normal", *SETTINGS["CIFAR10"].strengths()]
    assert found["normal"]["distance"] == 0
    assert len(found["normal"]["rates"]) == 30
    assert 0 < found["deepfool"]["margin"] < found["cw, lr 0.2"]["margin"]
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert _strengths(cells, SETTINGS["CIFAR10"], "uniform", UniformMutation(0.02), halves()) == found
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_the_table_of_strengths_has_the_area_of_each_attack():
    cell = {"distance": 1.0, "margin": 2.0}
    found = {
        "normal": cell | {"rates": [0.0, 0.1]},
        "above": cell | {"rates": [0.2, 0.3]},
        "half": cell | {"rates": [0.0, 0.1]},
    }
    rows = strength_table("MNIST", found).rows
    assert [row[-1] for row in rows] == [None, 1.0, 0.5]
    assert [row[1] for row in rows] == [2, 2, 2]


def test_a_victim_in_bfloat16_answers_in_float32():
    model = InBfloat16(halves())
    x = torch.rand(5, 1, 4, 4)
    logits = model(x)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
    assert torch.allclose(logits, halves()(x), atol=0.1)


def test_plans_name_operators_that_exist_and_quick_asks_for_less():
    for name, plan in PLANS.items():
        assert set(plan.operators) <= set(CANDIDATES[name])
        assert quick(plan).seeds == 1
        assert quick(plan).longest <= plan.longest
        assert quick(plan).judged < plan.judged
        assert f"{plan.judged:,}" in plan.text(1000)
    assert STRENGTH[0] <= 1000


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


def test_models_are_averaged_and_compared_one_by_one():
    index = torch.arange(400).double()[:, None]
    low = index[:, 0] * 0.001
    normal, far = torch.stack([index[:, 0], low], 1), torch.stack([index[:, 0], 1 + low], 1)
    found = {"normal": normal, **dict.fromkeys(KINDS, far)}
    missed = {"normal": normal, **dict.fromkeys(KINDS, normal)}
    half = Samples(torch.zeros(30, 1, 2, 2), torch.arange(30))
    rows = seeds_table("MNIST", 100, [{"LCR": found, "MU": missed}, {"LCR": missed, "MU": missed}], [half, half]).rows
    assert rows[0] == ["LCR", *["0.7500 ± 0.3536"] * 7]
    assert rows[1] == ["MU", *["0.5000 ± 0.0000"] * 7]
    assert rows[2] == ["LCR ahead of MU", *["1 of 2"] * 7]
