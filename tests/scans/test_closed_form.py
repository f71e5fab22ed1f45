"""Scores that can be calculated by hand."""

import math

import torch

from lightning_adv.scans import ActivationClustering, SpectralSignatures
from tests.scans.problems import batches, images, model


def test_a_spectral_score_is_the_squared_projection_on_the_planted_direction():
    features = torch.zeros(10, 6).double()
    features[:2, 0] = 5.0  # mean 1: eight at -1, two at 4
    features[0, 1], features[1, 1] = 1.0, -1.0  # a second direction of less variance, at right angles to the first
    found = SpectralSignatures(share=0.2).split(features)
    total = (8 * 1 + 2 * 16 + 2 * 1) / 10
    expected = torch.tensor([16.0, 16] + [1.0] * 8).double() / total
    torch.testing.assert_close(found.score, expected)
    assert found.suspect.nonzero().flatten().tolist() == [0, 1]
    assert math.isclose(found.statistic, 4.0 / total)


def test_a_share_of_every_class_is_removed_whether_or_not_it_is_poisoned():
    report = SpectralSignatures(share=0.1)(model(), batches(images(poisoned=0)))
    assert [each.suspects for each in report.classes] == [5] * 6


def test_a_cluster_of_more_than_the_largest_share_is_no_suspect():
    parts = batches(images(poisoned=20))
    assert ActivationClustering(largest_share=0.35)(model(), parts).classes[2].flagged is False
    assert ActivationClustering(largest_share=0.4)(model(), parts).classes[2].flagged is True
    assert ActivationClustering(largest_share=0.4, silhouette=0.9)(model(), parts).classes[2].flagged is False


def test_the_score_of_clustering_falls_with_the_share_of_the_smaller_cluster_and_is_below_0_in_the_other():
    features = torch.tensor([[0.0, 0]] * 6 + [[4.0, 0]] * 2).double()
    found = ActivationClustering(dimensions=1).split(features)
    torch.testing.assert_close(found.score, torch.tensor([-0.5] * 6 + [0.5] * 2).double())
    assert found.statistic == 1
