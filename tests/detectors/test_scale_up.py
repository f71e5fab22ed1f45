import pytest
import torch
from torch import nn

from lightning_adv.detectors import ScaleUp
from lightning_adv.errors import InputError
from tests.detectors.problems import Halves, blobs, learnt, loader
from tests.detectors.test_strip import Backdoored, triggered


def test_the_score_is_the_share_of_brighter_images_that_keep_the_label():
    """A grey of .12 is dark until it is multiplied by 5; one of .3 is bright from 2 on; a bright one stays so."""
    x = torch.tensor([0.12, 0.3, 0.04, 0.8]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    assert ScaleUp().score(Halves(), x).tolist() == pytest.approx([0.2, 0.0, 1.0, 1.0])
    assert ScaleUp(scales=(2.0, 4.5)).score(Halves(), x).tolist() == pytest.approx([0.5, 0.0, 1.0, 1.0])


def test_triggered_inputs_stay_and_are_suspicious_without_any_data():
    model, x = Backdoored(), blobs(100, seed=7)[0]
    assert ScaleUp().decide(model, triggered(x)).suspicious.all()
    assert ScaleUp().score(model, triggered(x)).min() == 1


def test_labels_suffice():
    model, x = learnt().eval(), blobs(20, seed=1)[0]
    by_labels = ScaleUp().score(lambda image: model(image).argmax(dim=1), x)
    assert torch.equal(by_labels, ScaleUp().score(model, x))


class BrightIsOne(nn.Module):
    """Class 1 for whatever is bright, else class 0 if it is very dark, else 2: clean images of class 1 all stay."""

    def forward(self, x):
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([0.1 - level, level - 0.3, torch.full_like(level, -0.02)], dim=1)


def test_scores_are_normalised_by_the_clean_images_of_the_predicted_class():
    level = torch.tensor([0.01, 0.02, 0.05, 0.5, 0.6, 0.7, 0.15, 0.2, 0.25])
    x, y = level.view(-1, 1, 1, 1).expand(-1, 1, 2, 2), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    plain = ScaleUp().score(BrightIsOne(), x)
    detector = ScaleUp(normalise=True).fit(BrightIsOne(), [(x, y)])
    assert detector.threshold is None
    groups = plain.view(3, 3)
    spread = groups.std(dim=1, unbiased=False, keepdim=True).clamp(min=0.2)
    expected = (groups - groups.mean(dim=1, keepdim=True)) / spread
    assert torch.allclose(detector.score(BrightIsOne(), x), expected.flatten())
    assert detector.score(BrightIsOne(), x[3:6]).abs().max() == 0


def test_a_class_that_no_clean_image_was_of_is_measured_by_all_of_them():
    x, y = torch.full((4, 1, 2, 2), 0.01), torch.zeros(4, dtype=torch.long)
    x[:2] = 0.04
    detector = ScaleUp(normalise=True).fit(BrightIsOne(), [(x, y)])
    share = ScaleUp().score(BrightIsOne(), x)
    bright = detector.score(BrightIsOne(), torch.full((1, 1, 2, 2), 0.9))
    assert bright.item() == pytest.approx((1 - share.mean().item()) / max(share.std(unbiased=False).item(), 0.2))


def test_an_image_is_scored_by_itself():
    model, x = learnt(), blobs(12, seed=3)[0]
    whole = ScaleUp(normalise=True).fit(model, loader())
    assert torch.equal(whole.score(model, x), torch.cat([whole.score(model, each) for each in x.split(1)]))


def test_mistakes_are_refused():
    with pytest.raises(InputError, match="factors above 1"):
        ScaleUp(scales=(1.0, 2.0))
    with pytest.raises(InputError, match="factors above 1"):
        ScaleUp(scales=())
    with pytest.raises(InputError, match="call fit"):
        ScaleUp(normalise=True).score(learnt(), blobs(2)[0])
