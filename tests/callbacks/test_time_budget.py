import pytest
import torch
from torch import nn

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.callbacks import AttackEvaluation, BackdoorInspection, TimeBudget
from lightning_adv.callbacks.time_budget import _Measured
from lightning_adv.errors import InputError
from lightning_adv.evaluation.pace import Pace, Passes, measure_pace, passes_of
from lightning_adv.inspectors import NeuralCleanse

IMAGE = torch.rand(1, 1, 8, 8)


def measured(seconds: float, robust: float = 0.5) -> _Measured:
    return _Measured(Pace(seconds / 3, seconds), 10, IMAGE, 10_000, robust)


@pytest.mark.parametrize(("attack", "passes"), [(FGSM(0.1), (2, 1)), (PGD(0.1, steps=7), (8, 7))])
def test_the_passes_of_an_attack_are_counted(attack, passes):
    assert passes_of(attack, IMAGE, 10) == Passes(*passes)


def test_a_search_keeps_its_looks_at_the_cost_and_loses_images_first():
    inspector = NeuralCleanse(steps=1000, images_per_step=1000)
    budget = TimeBudget(10)
    budget._cut_search(BackdoorInspection({"nc": inspector}), measured(0.001), 130)
    assert inspector.images_per_step == 64
    assert inspector.steps == 156
    assert budget.cuts == ["nc: 1,000 steps of 1,000 images to 156 steps of 64 images"]


def test_enough_time_cuts_nothing():
    inspector, attacks = NeuralCleanse(steps=10, images_per_step=32), AttackEvaluation({"fgsm": FGSM(0.1)})
    budget = TimeBudget(10)
    budget._cut_search(BackdoorInspection({"nc": inspector}), measured(1e-6), 100)
    budget._cut_attacks(attacks, measured(1e-6), 100)
    assert (inspector.steps, inspector.images_per_step, attacks.max_samples, budget.cuts) == (10, 32, None, [])


def test_the_dearest_attack_is_left_out_before_the_images_are_too_few_to_count():
    attacks = AttackEvaluation({"pgd": PGD(0.1, steps=10), "many": PGD(0.1, steps=1000)}, max_samples=5000)
    budget = TimeBudget(10)
    budget._cut_attacks(attacks, measured(0.01), 30)
    assert list(attacks.attacks) == ["pgd"]
    assert 100 <= attacks.max_samples <= 300
    assert "many is left out" in budget.cuts[0]


def test_a_net_that_falls_at_once_is_given_the_dear_attack():
    attacks = AttackEvaluation({"pgd": PGD(0.1, steps=10), "many": PGD(0.1, steps=1000)})
    TimeBudget(10)._cut_attacks(attacks, measured(0.001, robust=0.01), 30)
    assert set(attacks.attacks) == {"pgd", "many"}


def test_what_the_first_passes_alone_cost_is_not_the_pace_of_a_model(monkeypatch):
    class SlowAtFirst(nn.Module):
        clock, passes = 0.0, 0

        def forward(self, x):
            SlowAtFirst.clock += 0.01 * len(x) + (5 if self.passes < 2 else 0)
            SlowAtFirst.passes += 1
            return x.flatten(1)[:, :10]

    monkeypatch.setattr("lightning_adv.evaluation.pace.perf_counter", lambda: SlowAtFirst.clock)
    pace = measure_pace(SlowAtFirst(), torch.rand(32, 1, 8, 8))
    assert (pace.forward, pace.both) == (pytest.approx(0.01), pytest.approx(0.01))


def test_no_time_is_refused():
    with pytest.raises(InputError, match="above 0"):
        TimeBudget(0)
