import pytest
import torch
from sklearn.metrics import silhouette_score

from lightning_adv.scans.halves import principal, silhouette, two_means


def points(apart: float, small: int = 10, large: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    second = torch.arange(small + large) < small
    noise = torch.randn(small + large, 5, generator=generator, dtype=torch.double)
    return noise + apart * second[:, None], second


def test_two_clusters_that_lie_apart_are_the_two_halves():
    found, second = points(8.0)
    assert torch.equal(two_means(found), second)
    assert torch.equal(two_means(-found), second)


def test_the_smaller_half_is_given_whatever_the_order():
    found, second = points(8.0, small=24, large=26)
    assert torch.equal(two_means(found.flip(0)), second.flip(0))


@pytest.mark.parametrize("apart", [0.5, 3.0])
def test_the_silhouette_is_that_of_a_peer(apart):
    found, second = points(apart)
    assert silhouette(found, second) == pytest.approx(silhouette_score(found.numpy(), second.numpy()), rel=1e-9)


def test_one_cluster_has_no_silhouette():
    same = torch.ones(6, 2).double()
    assert not two_means(same).any()
    assert silhouette(same, two_means(same)) == 0


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_principal_coordinates_are_those_of_the_singular_value_decomposition(shape):
    features = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    found, variances = principal(features, 3)
    left, singular, _ = torch.linalg.svd(features - features.mean(dim=0), full_matrices=False)
    torch.testing.assert_close(found.abs(), (left * singular)[:, :3].abs())
    torch.testing.assert_close(variances[:6], singular[:6].square() / len(features))
