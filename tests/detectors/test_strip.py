"""STRIP rejects inputs whose prediction survives every overlay, and the asked share of clean ones."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.detectors import STRIP
from lightning_adv.errors import InputError
from tests.detectors.problems import Learner, blobs, learnt, loader


class Backdoored(nn.Module):
    """The learner, but for a bright corner, which means class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.clean: Learner = learnt()

    def forward(self, x: Tensor) -> Tensor:
        triggered = x[:, 0, -1, -1] > 0.99
        return self.clean(x) + 40 * triggered[:, None] * torch.tensor([1.0, 0.0, 0.0])


def triggered(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0, -1, -1] = 1.0
    return x


def test_triggered_inputs_are_rejected_and_clean_ones_are_not():
    model = Backdoored()
    strip = STRIP(overlays=64, false_rejection_rate=0.02).fit(model, loader(300))
    x = blobs(100, seed=7)[0]
    assert strip.decide(model, triggered(x)).suspicious.float().mean() > 0.95
    assert strip.decide(model, x).suspicious.float().mean() < 0.1


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_the_false_rejection_rate_is_the_one_asked_for(rate):
    model, clean = Backdoored(), loader(1200)
    strip = STRIP(overlays=16, false_rejection_rate=rate).fit(model, clean)
    found = strip.decide(model, blobs(1200, seed=9)[0]).suspicious.float().mean().item()
    assert abs(found - rate) < 0.035


def test_the_score_is_minus_the_entropy_over_the_classes():
    """Logits of zero whatever the input: log K nats."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    score = STRIP(overlays=8).fit(model, loader()).score(model, blobs(4)[0])
    assert torch.allclose(score, -torch.tensor(3.0).log().expand(4), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 50, 10_000])
def test_a_score_belongs_to_its_sample(batch_size):
    model, x, index = Backdoored(), blobs(9, seed=3)[0], torch.arange(9) + 20
    whole = STRIP(overlays=16).fit(model, loader()).score(model, x, index=index)
    strip = STRIP(overlays=16, batch_size=batch_size).fit(model, loader())
    alone = [strip.score(model, x[i : i + 1], index=index[i : i + 1]) for i in range(9)]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overlays": 0}, "overlays must be at least 1"),
        ({"false_rejection_rate": 1.0}, r"\[0, 1\)"),
        ({"weight": 0}, r"\(0, 1\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        STRIP(**options)


def test_it_must_be_fitted_on_more_than_one_image():
    with pytest.raises(InputError, match="call fit"):
        STRIP().score(learnt(), blobs(2)[0])
    with pytest.raises(InputError, match="at least two"):
        STRIP().fit(learnt(), loader(1))


class Certain(nn.Module):
    """Sure of class 0, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[200.0, 0.0, 0.0]]).expand(len(x), -1) + 0 * x.sum()


def test_a_threshold_that_no_clean_image_lies_above_says_why():
    few = STRIP(overlays=4, false_rejection_rate=0.01).fit(Backdoored(), loader(20))
    assert few.doubts == (
        "none of 10 clean images lies above the threshold, too few of them for a false positive rate of 0.01; give at "
        "least 100",
    )
    tied = STRIP(overlays=4, false_rejection_rate=0.2).fit(Certain(), loader(20))
    assert "the highest scores are equal" in tied.doubts[0]
    assert not tied.decide(Certain(), blobs(4)[0]).suspicious.any()
    assert STRIP(overlays=4, false_rejection_rate=0.2).fit(Backdoored(), loader(40)).doubts == ()
