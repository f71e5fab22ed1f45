"""Table 4 over several models, from measures made up."""

import torch

from experiments.nmutant.repeats import seeds_table
from experiments.nmutant.samples import KINDS, Samples


def test_models_are_averaged_and_their_distance_is_told():
    index = torch.arange(400).double()[:, None]
    low = index[:, 0] * 0.001
    normal, far = torch.stack([index[:, 0], low], 1), torch.stack([index[:, 0], 1 + low], 1)
    found = {"normal": normal, **dict.fromkeys(KINDS, far)}
    missed = {"normal": normal, **dict.fromkeys(KINDS, normal)}
    half = Samples(torch.zeros(30, 1, 2, 2), torch.arange(30))
    rows = seeds_table("MNIST", 100, [{"LCR": found, "MU": missed}, {"LCR": missed, "MU": missed}], [half, half]).rows
    assert rows[0] == ["LCR", *["0.7500 ± 0.3536"] * 7, "0.5000"]
    assert rows[1] == ["MU", *["0.5000 ± 0.0000"] * 7, "0.0000"]
