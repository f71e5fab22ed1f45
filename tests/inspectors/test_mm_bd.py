import copy
import math

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors import MMBD, NeuralCleanse
from lightning_adv.mitigations import NeuralCleanseUnlearning
from tests.inspectors.problems import PatchModel, pixel_model

WEIGHTS, BACKDOOR, GAIN = [1.0, 1.05, 0.95, 1.1, 0.9, 1.02, 0.98], 2, 10.0
ONE = torch.zeros(1, 1, 4, 4)


@pytest.fixture(scope="module")
def found():
    return MMBD(starts=5, steps=80, lr=0.05)(pixel_model(WEIGHTS, BACKDOOR, GAIN), ONE)


def test_finds_the_largest_margin_of_a_linear_model(found):
    """A class's own pixel is white and the other classes' black; the backdoor's has the last pixel too."""
    margins = [weight + GAIN * (k == BACKDOOR) for k, weight in enumerate(WEIGHTS)]
    assert found.norms == pytest.approx(margins, abs=1e-4)
    for trigger in found.triggers:
        assert trigger.pattern.flatten()[trigger.label] == pytest.approx(1, abs=1e-4)
    assert found.flagged == found.significant == [BACKDOOR]
    assert found.order[0] == BACKDOOR
    assert {trigger.success_rate for trigger in found.triggers} == {1.0}


def test_takes_the_steps_of_stochastic_gradient_descent_with_a_momentum_that_acts():
    model = PatchModel(7, 4).eval()
    ours = MMBD(starts=3, steps=6, lr=0.3, momentum=0.5, tolerance=0)
    report = ours(model, torch.zeros(1, 3, 9, 12))
    for label in (0, 4):
        from lightning_adv.attacks import SampleNoise

        x = SampleNoise(0, torch.tensor([label])).uniform(torch.empty(1, 3, 3, 9, 12))[0].requires_grad_(True)
        sgd = torch.optim.SGD([x], lr=0.3, momentum=0.5)
        for _ in range(6):
            logits = model(x.clamp(0, 1))
            others = logits[:, [k for k in range(7) if k != label]]
            sgd.zero_grad()
            (-(logits[:, label] - others.amax(dim=1)).sum()).backward()
            sgd.step()
        logits = model(x.clamp(0, 1)).detach()
        margins = logits[:, label] - logits[:, [k for k in range(7) if k != label]].amax(dim=1)
        assert report.norms[label] == pytest.approx(margins.max().item(), rel=1e-4)


def test_the_ascent_ends_when_margins_hardly_change(found):
    settled = MMBD(starts=2, steps=500, lr=0.05)(pixel_model(WEIGHTS, BACKDOOR, GAIN), ONE)
    assert max(trigger.steps for trigger in settled.triggers) < 500
    assert {trigger.steps for trigger in MMBD(steps=4, tolerance=0)(PatchModel(5, 1), ONE).triggers} == {4}


def test_the_classes_can_be_shared_out_to_processes_and_to_forwards(found, monkeypatch):
    inspector, model = MMBD(starts=5, steps=80, lr=0.05), pixel_model(WEIGHTS, BACKDOOR, GAIN)
    parts = [inspector.search(model, ONE, rank, 3) for rank in range(3)]
    assert inspector.judge(parts).norms == pytest.approx(found.norms, rel=1e-5)
    monkeypatch.setattr("lightning_adv.inspectors.mm_bd.fitting", lambda images: 10)
    assert inspector(model, ONE).norms == pytest.approx(found.norms, rel=1e-5)


def test_leaves_the_suspect_bit_for_bit_and_needs_no_image_of_every_class():
    model = PatchModel(7, 4)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    MMBD(starts=2, steps=3)(model, [(torch.zeros(2, 1, 9, 9), torch.tensor([3, 3]))])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


class BrokenForOne(nn.Module):
    """Says NaN of every image."""

    def forward(self, x):
        return x.flatten(1)[:, :5] * math.nan


def test_margins_that_are_no_numbers_have_no_verdict():
    report = MMBD(starts=2, steps=3)(BrokenForOne(), ONE)
    assert {trigger.status for trigger in report.triggers} == {"diverged"}
    assert report.flagged is None


def test_three_classes_are_said_to_have_no_verdict_before_the_search():
    assert "4 are needed" in MMBD().check(None, 3)[0]
    assert MMBD().check(torch.tensor([0]), 4) == []


def test_a_search_that_is_cut_short_says_so():
    inspector = MMBD(starts=2, steps=10, tolerance=0)
    inspector.over = lambda done: 1.0 if done >= 0.3 else done
    report = inspector(PatchModel(5, 1), ONE)
    assert {(trigger.status, trigger.steps) for trigger in report.triggers} == {("budget exhausted", 3)}


def test_images_of_large_margins_are_not_unlearnt_as_triggers():
    with pytest.raises(InputError, match="MMBD finds no triggers to unlearn"):
        NeuralCleanseUnlearning(MMBD())
    assert NeuralCleanseUnlearning(NeuralCleanse()).inspector.large is False


@pytest.mark.parametrize("options", [{"starts": 0}, {"lr": 0.0}, {"momentum": 1.0}, {"alarm": 1.0}])
def test_a_number_that_cannot_be_meant_is_refused(options):
    with pytest.raises(InputError):
        MMBD(**options)
