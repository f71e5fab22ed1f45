"""Strengths of attacks on a classifier whose boundary is known."""

import torch

from experiments.nmutant.cells import Cells
from experiments.nmutant.samples import SETTINGS, Samples
from experiments.nmutant.strength import strengths
from lightning_adv.detectors import UniformMutation
from tests.experiments.nmutant.boundary import halves


def test_strengths_tell_near_samples_from_far_ones_and_are_kept(tmp_path):
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    cells = Cells(tmp_path, {"normal": Samples(images, torch.arange(100, 130))})
    found = strengths(cells, SETTINGS["CIFAR10"], "uniform", UniformMutation(0.02), halves(), 30)
    assert list(found) == ["normal", *SETTINGS["CIFAR10"].strengths()]
    assert found["normal"]["distance"] == 0
    assert len(found["normal"]["rates"]) == 30
    assert 0 < found["deepfool"]["margin"] < found["cw, lr 0.2"]["margin"]
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert strengths(cells, SETTINGS["CIFAR10"], "uniform", UniformMutation(0.02), halves(), 30) == found
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
