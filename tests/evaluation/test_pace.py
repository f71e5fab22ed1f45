import pytest
import torch
from torch import nn

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.evaluation.pace import Passes, measure_pace, passes_of

IMAGE = torch.rand(1, 1, 8, 8)


@pytest.mark.parametrize(
    ("attack", "most", "passes"),
    [(FGSM(0.1), 99, (2, 1)), (PGD(0.1, steps=7), 99, (8, 7)), (PGD(0.1, steps=500), 4, (5, 5))],
)
def test_the_passes_of_an_attack_are_counted_as_far_as_anybody_asks(attack, most, passes):
    assert passes_of(attack, IMAGE, 10, most) == Passes(*passes)


def test_a_model_without_a_gradient_has_the_pace_of_its_answers():
    pace = measure_pace(lambda x: x.detach().flatten(1)[:, :10], torch.rand(2, 1, 8, 8))
    assert min(pace.forward, pace.both) > 0


def test_what_the_first_passes_alone_cost_is_not_the_pace_of_a_model(monkeypatch):
    class SlowAtFirst(nn.Module):
        clock, seen = 0.0, set()

        def forward(self, x):
            first = (len(x), x.requires_grad) not in self.seen
            self.seen.add((len(x), x.requires_grad))
            SlowAtFirst.clock += 0.01 * len(x) + 5 * first
            return x.flatten(1)[:, :10]

    monkeypatch.setattr("lightning_adv.evaluation.pace.perf_counter", lambda: SlowAtFirst.clock)
    pace = measure_pace(SlowAtFirst(), torch.rand(32, 1, 8, 8))
    assert (pace.forward, pace.both) == (pytest.approx(0.01), pytest.approx(0.01))
