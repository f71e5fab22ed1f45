"""The LID of its authors' code takes the neighbours from the sample's own minibatch, its nearest left out."""

import torch
from torch import nn

from experiments.nmutant.neighbours import LIDS, MINIBATCH, NEIGHBOURS, lids_of_its_authors
from lightning_adv.detectors.local_intrinsic_dimensionality import lid_of_distances


def test_neighbours_are_those_of_the_own_minibatch_without_the_nearest():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False))
    nn.init.eye_(model[1].weight)
    clean = torch.rand(2 * MINIBATCH, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    moved = (clean + 1e-3).clamp(0, 1)
    found = lids_of_its_authors(model, moved, clean)
    own = torch.stack([(moved[150] - each).norm() for each in clean[MINIBATCH:]]).sort().values
    assert own[0] <= 2e-3, "its original"
    torch.testing.assert_close(found[150], lid_of_distances(own[None, 1 : NEIGHBOURS + 1]))


def test_each_way_looks_among_as_many_as_it_says():
    for told, detector in LIDS.items():
        k, among = (int(each.replace(",", "")) for each in told.partition(", mean")[0].split(" of "))
        assert detector.k == k
        assert among == (detector.minibatch or detector.reference_samples)
