import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.scans import SCAn
from lightning_adv.scans.statistical_contamination import within_classes
from tests.scans.problems import batches, images, model, truth


def two_level(classes: int, each: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of classes whose means and images vary by covariances that are known: the second, and which is whose."""
    generator = torch.Generator().manual_seed(0)
    within = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.double)
    label = torch.arange(classes).repeat_interleave(each)
    means = 5 * torch.randn(classes, 2, generator=generator, dtype=torch.double)
    noise = torch.randn(len(label), 2, generator=generator, dtype=torch.double) @ torch.linalg.cholesky(within).T
    return means[label] + noise, label, within


def test_em_finds_how_images_of_a_class_differ():
    features, label, within = two_level(200, 20)
    torch.testing.assert_close(within_classes(features, label), within, rtol=0.1, atol=0.1)


def test_em_corrects_what_few_images_of_a_class_hide():
    features, label, within = two_level(2000, 2)
    residual = features - torch.stack([features[label == k].mean(dim=0) for k in range(2000)])[label]
    naive = residual.T @ residual / len(features)
    found = within_classes(features, label)
    assert (naive.diagonal() < 0.6 * within.diagonal()).all()
    torch.testing.assert_close(found, within, rtol=0.15, atol=0.1)


def test_lengths_are_those_under_the_covariance_of_images():
    scan, clean = SCAn(ridge=0), batches(images(each=200, poisoned=0, seed=1))
    report = scan.examine(model(), batches(images(each=200, poisoned=0)), clean)
    groups = [report.measures[report.label == k, :-1] for k in range(6)]
    residual = torch.cat([group - group.mean(dim=0) for group in groups])
    torch.testing.assert_close(residual.T @ residual / len(residual), torch.eye(16), rtol=0, atol=0.25)


def test_the_ratio_of_two_groups_is_their_squared_distance_weighted_by_their_sizes():
    measures = torch.tensor([[0.0, 1], [0, -1], [0, 1], [0, -1], [8, 1], [8, -1]]).double()
    found = SCAn().split(with_clean(measures, 0))
    assert found.suspect.nonzero().flatten().tolist() == [4, 5]
    assert found.statistic == pytest.approx(4 * 2 / 36 * 64)
    torch.testing.assert_close(found.score, torch.tensor([-64.0] * 4 + [64.0] * 2).double())


def with_clean(measures: torch.Tensor, there: float) -> torch.Tensor:
    return torch.cat([measures, torch.full((len(measures), 1), there).double()], dim=1)


def test_the_suspects_are_those_away_from_the_clean_images_even_if_they_are_more():
    measures = torch.tensor([[0.0, 1], [0, -1], [8, 1], [8, -1], [8, 2]]).double()
    assert SCAn().split(with_clean(measures, 1)).suspect.tolist() == [False, False, True, True, True]
    assert SCAn().split(with_clean(measures, 0)).suspect.tolist() == [True, True, False, False, False]
    parts = images(each=50, poisoned=35)
    report = SCAn(ridge=0.1)(model(), batches(parts), batches(images(each=20, poisoned=0, seed=1)))
    assert report.suspects.tolist() == truth(35)


def test_a_label_that_the_model_does_not_know_is_refused():
    image, label, number = images()
    with pytest.raises(InputError, match="outside"):
        SCAn()(model(), [(image, label + 3, number)], batches(images(poisoned=0)))


def test_a_scan_without_clean_images_or_with_those_of_one_class_is_refused():
    with pytest.raises(InputError, match="clean images first"):
        SCAn()(model(), batches(images()))
    image, label, number = images(poisoned=0)
    with pytest.raises(InputError, match="at least two classes"):
        SCAn()(model(), batches(images()), [(image[label == 0], label[label == 0], number[label == 0])])
