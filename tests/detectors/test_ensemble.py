"""The ensemble is logistic regression on the members' measures, scaled on the samples it learns from."""

import pytest
import torch

from lightning_adv.detectors import DetectorEnsemble, KernelDensity, LocalIntrinsicDimensionality, ModelUncertainty
from lightning_adv.detectors.ensemble import LogisticRegression
from lightning_adv.errors import InputError
from tests.detectors.problems import blobs, learnt, loader


def ensemble() -> DetectorEnsemble:
    return DetectorEnsemble(
        {"kd": KernelDensity(), "mu": ModelUncertainty(passes=20), "lid": LocalIntrinsicDimensionality(k=10)}
    )


def noise(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_regression_recovers_the_odds_of_two_normal_laws():
    """N(0, 1) against N(1, 1): log odds are x - 1/2."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(20_000, 1, generator=generator)
    adversarial = 1 + torch.randn(20_000, 1, generator=generator)
    odds = LogisticRegression.fit(normal, adversarial)(torch.tensor([[0.0], [1.0], [2.0]]))
    assert odds.tolist() == pytest.approx([-0.5, 0.5, 1.5], abs=0.06)


def test_a_measure_that_points_the_wrong_way_or_says_nothing_does_no_harm():
    generator = torch.Generator().manual_seed(0)
    normal, adversarial = torch.randn(500, 3, generator=generator), torch.randn(500, 3, generator=generator)
    adversarial[:, 1] -= 3
    normal[:, 2] = adversarial[:, 2] = 7.0
    regression = LogisticRegression.fit(normal, adversarial)
    assert (regression(adversarial) > 0).double().mean() > 0.9
    assert (regression(normal) < 0).double().mean() > 0.9


def test_the_ensemble_tells_unseen_noise_from_unseen_images():
    model = learnt()
    both = ensemble().fit(model, loader()).learn_weights(model, blobs(60, seed=2)[0], noise(60, 3))
    assert both.measures(model, noise(5, 9)).shape == (5, 5)
    assert both.decide(model, noise(60, 4)).suspicious.float().mean() > 0.85
    assert both.decide(model, blobs(60, seed=6)[0]).suspicious.float().mean() < 0.15


def test_what_cannot_work_is_refused():
    with pytest.raises(InputError, match="at least one"):
        DetectorEnsemble({})
    with pytest.raises(InputError, match="learn_weights"):
        ensemble().fit(learnt(), loader()).score(learnt(), blobs(2)[0])
    with pytest.raises(InputError, match="got 3 and 0"):
        LogisticRegression.fit(torch.rand(3, 1), torch.rand(0, 1))
    with pytest.raises(InputError, match="with finite measures"):
        LogisticRegression.fit(torch.rand(3, 1), torch.full((3, 1), torch.inf))
