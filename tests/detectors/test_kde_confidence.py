"""The confidence is the posterior of the predicted class among kernel densities of a short code of the features."""

import pytest
import torch
from torch import nn

from lightning_adv.detectors import KDEConfidence
from lightning_adv.errors import InputError
from tests.detectors.problems import blobs, learnt, loader


def plane() -> nn.Module:
    """Two pixels are the features, and the class is the brighter one."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
        model[1].bias.zero_()
    return model


def test_the_confidence_is_the_posterior_of_two_kernels():
    clean = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).view(3, 1, 1, 2)
    detector = KDEConfidence(variance_kept=1.0, bandwidth=0.5).fit(plane(), [(clean, torch.tensor([0, 0, 1]))])
    x = torch.tensor([0.6, 0.5]).view(1, 1, 1, 2)
    near, far = (torch.exp(-((x.flatten() - at) ** 2).sum() / 0.5) for at in torch.eye(2))
    assert detector.score(plane(), x).item() == pytest.approx(1 - (2 * near / (2 * near + far)).item(), abs=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0])
def test_the_code_is_the_shortest_that_keeps_the_variance(share):
    model = learnt()
    detector = KDEConfidence(variance_kept=share).fit(model, loader())
    assert detector.variance >= share - 1e-6
    if detector.components > 1:
        shorter = KDEConfidence(variance_kept=detector.variance - 1e-6).fit(model, loader())
        assert shorter.components == detector.components
    assert KDEConfidence(variance_kept=0.3).fit(model, loader()).components <= detector.components


def test_images_between_classes_score_higher_than_images_of_one():
    model, (x, y) = learnt(), blobs(60, seed=3)
    detector = KDEConfidence(variance_kept=0.9).fit(model, loader(300))
    between = (x[y == 0] + x[y == 1]) / 2
    assert detector.score(model, between).mean() > 5 * detector.score(model, x).mean()


def test_a_class_without_clean_images_is_not_trusted():
    model, (x, y) = learnt(), blobs(90)
    detector = KDEConfidence().fit(model, [(x[y < 2], y[y < 2])])
    assert (detector.score(model, x[y == 2]) > 0.99).float().mean() > 0.9


def test_what_cannot_work_is_refused():
    with pytest.raises(InputError, match="variance_kept"):
        KDEConfidence(variance_kept=0)
    with pytest.raises(InputError, match="at least three"):
        KDEConfidence().fit(learnt(), loader(2))
    with pytest.raises(InputError, match="call fit"):
        KDEConfidence().score(learnt(), blobs(2)[0])
