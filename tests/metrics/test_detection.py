"""AUROC, its interval and its curve are those of the definitions."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from lightning_adv.metrics.detection import auroc, auroc_interval, roc_points


def two_laws(count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, generator=generator), 1 + torch.randn(count, generator=generator)


@pytest.mark.parametrize("stretch", [1.0, 1e-6, 1e4])
def test_the_area_is_scikit_learns_whatever_the_scale_of_the_scores(stretch):
    normal, adversarial = (stretch * each for each in two_laws())
    truth = [0] * len(normal) + [1] * len(adversarial)
    assert auroc(normal, adversarial) == pytest.approx(roc_auc_score(truth, torch.cat([normal, adversarial])), abs=1e-6)


def test_ties_count_half_and_one_value_says_nothing():
    assert auroc(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])) == pytest.approx(0.875)
    assert auroc(torch.zeros(3), torch.zeros(2)) == pytest.approx(0.5)


def test_the_curve_goes_from_corner_to_corner_and_encloses_the_area():
    normal, adversarial = two_laws()
    points = roc_points(normal, adversarial)
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    assert len(points) <= 101
    false, true = torch.tensor(points).unbind(1)
    assert torch.trapezoid(true, false).item() == pytest.approx(auroc(normal, adversarial), abs=0.01)


def test_the_interval_covers_the_true_area_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    true_area, covered = 0.7602, 0  # of N(0, 1) against N(1, 1)
    for _ in range(300):
        area = auroc(torch.randn(60, generator=generator), 1 + torch.randn(60, generator=generator))
        low, high = auroc_interval(area, 60, 60)
        covered += low <= true_area <= high
    assert 0.91 <= covered / 300 <= 0.985
