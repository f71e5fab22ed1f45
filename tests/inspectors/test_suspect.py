import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors import DeepInspect, NeuralCleanse
from lightning_adv.inspectors.suspect import CleanImages, Suspect, fitting, shuffled_minibatches

MODEL = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
X = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def test_a_tensor_and_batches_of_it_are_the_same_images():
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    batches = [(X[:4], label[:4], torch.arange(4)), (X[4:], label[4:], torch.arange(2))]
    clean = CleanImages.of(batches, MODEL)
    assert torch.equal(clean.image, CleanImages.of(X, MODEL).image)
    assert torch.equal(clean.label, label)
    assert CleanImages.of([X[:4], X[4:]], MODEL).label is None


def test_bytes_become_floats():
    assert CleanImages.of([torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)], MODEL).image.max() == 1.0


WRONG = {
    "none": (X[:0], "there are none"),
    "range": (X * 3, r"must lie in \[0, 1\]"),
    "shape": (X[0], r"must be tensors \[N, C, H, W\]"),
    "one class": ([(X, torch.zeros(6, dtype=torch.long))], "all 6 clean images are of class 0"),
    "unknown class": ([(X, torch.arange(6))], r"label 5 is outside \[0, 3\)"),
    "labels": ([(X, torch.zeros(2, dtype=torch.long))], "must be 6 integers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_images_that_cannot_be_inspected_with_are_refused(name):
    images, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        NeuralCleanse(steps=1)(MODEL, images)


def test_a_forward_that_gives_no_logits_is_refused():
    with pytest.raises(InputError, match="rows of logits"):
        NeuralCleanse(steps=1)(nn.Identity(), X)


def test_a_class_without_a_clean_image_is_said():
    labelled = [(X, torch.tensor([0, 2, 0, 2, 0, 2]))]
    with pytest.raises(InputError, match=r"1 of 3 classes have no clean image \(1\).*allow_missing_classes"):
        NeuralCleanse(steps=1)(MODEL, labelled)
    report = NeuralCleanse(steps=1, allow_missing_classes=True)(MODEL, labelled)
    assert "1 of 3 classes have no clean image (1)" in report.warnings[0]


def test_a_description_tells_the_arguments_of_every_inspector_too():
    assert "steps=7" in repr(NeuralCleanse(steps=7, alpha=0.01))
    assert "alpha=0.01, seed=0, allow_missing_classes=False)" in repr(NeuralCleanse(steps=7, alpha=0.01))


def test_minibatches_go_through_every_image_before_one_comes_again():
    batches = shuffled_minibatches(X, 4, seed=0)
    three = torch.cat([next(batches) for _ in range(3)])
    for part in (three[:6], three[6:]):
        assert sorted(part[:, 0, 0, 0].tolist()) == sorted(X[:, 0, 0, 0].tolist())
    assert not torch.equal(three[:6], three[6:])


def test_minibatches_may_be_larger_than_the_set():
    assert len(next(shuffled_minibatches(X, 20, seed=0))) == 20


def test_passes_are_counted():
    suspect = Suspect(MODEL)
    suspect(X)
    suspect.success_rate(X, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), 0)
    assert (suspect.launches, suspect.image_passes) == (2, 12)


def test_a_randomised_model_is_judged_by_the_mean_of_draws_and_said():
    noisy = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), AddsNoise())
    nn.init.zeros_(noisy[1].weight)
    noisy[1].bias.data = torch.tensor([0.0, 1.0])  # a quarter of the draws say 0, the mean says 1
    suspect = Suspect(noisy)
    nothing = torch.zeros(1, 2, 2)
    suspect.classes(X[:1])
    assert [suspect.success_rate(X, nothing, nothing, label) for label in (0, 1)] == [0, 1]
    for inspector in (NeuralCleanse(steps=1), DeepInspect(steps=1, hidden=4, draws=2)):
        report = inspector(noisy, X)
        assert [trigger.success_rate for trigger in report.triggers] == [0, 1]
        assert sum("answers differently to the same images" in text for text in report.warnings) == 1
        assert not any("answers differently" in text for text in inspector(MODEL, X).warnings)


class AddsNoise(nn.Module):
    """Noise on the logits, in every mode."""

    def forward(self, x):
        return x + torch.randn_like(x)


def test_a_forward_on_a_cpu_has_as_many_images_as_fit():
    assert fitting(torch.zeros(5, 3, 32, 32)) == 256
    assert fitting(torch.zeros(5, 1, 28, 28)) == 1003
    assert fitting(torch.zeros(5, 3, 1024, 1024)) == 1


class Views(nn.Module):
    """Looks at the answer of a convolution in a way that asks its channels to lie apart."""

    def __init__(self, view):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.view = nn.Conv2d(1, 4, 3), view

    def forward(self, x):
        maps = self.conv(x)
        return (maps.view(len(x), 4, -1) if self.view else maps.flatten(2)).mean(dim=2)


@pytest.mark.parametrize("inspector", [NeuralCleanse(steps=3), DeepInspect(steps=3, hidden=4, draws=2)])
def test_a_model_that_views_a_convolution_is_inspected_as_one_that_does_not(inspector):
    images = torch.rand(6, 1, 5, 5)
    one, other = (inspector(Views(view), images) for view in (True, False))
    torch.testing.assert_close(one.masks, other.masks)


def picky(x):
    """Cannot compute in bfloat16, which numpy does not have."""
    logits = x.flatten(1) @ torch.ones(4, 3)
    return torch.from_numpy(logits.detach().numpy()) + logits


def able(monkeypatch, is_able):
    monkeypatch.setattr("lightning_adv.inspectors.suspect.computes_in_bf16", lambda device: is_able)


@pytest.mark.parametrize("is_able", [True, False])
def test_none_searches_in_bfloat16_where_the_device_has_instructions_for_it(is_able, monkeypatch):
    able(monkeypatch, is_able)
    suspect = Suspect(MODEL)
    assert [suspect.lower(X, bf16) for bf16 in (None, True, False)] == [is_able, True, False]


def test_a_model_that_cannot_compute_in_bfloat16_is_searched_without_it_or_refused_if_that_was_asked_for(monkeypatch):
    able(monkeypatch, True)
    inspector, asked = (NeuralCleanse(steps=2, bf16=bf16) for bf16 in (None, True))
    assert [inspector(model, X).bf16 for model in (MODEL, picky)] == [True, False]
    with pytest.raises(InputError, match=r"cannot compute in bfloat16 \(.*\): leave .* bf16: true .* out"):
        asked(picky, X)
