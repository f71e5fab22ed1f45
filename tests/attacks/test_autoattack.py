"""AutoAttack: survivors only, the worst of its attacks, a saturated model does not fool it."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from lightning_adv.attacks import PGD, AutoAttack
from lightning_adv.errors import InputError

from .laws import outcome
from .problems import shortened, tilted_problem


class Saturated(nn.Module):
    """Logits so large that the softmax of float32 is exactly one: cross-entropy has no gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e6 * self.model(x)


def test_every_stage_gets_the_survivors_of_the_one_before():
    model, x, y = tilted_problem(24)
    result = shortened(AutoAttack(eps=0.03), 30).run(model, x, y)
    names, stages = [stage.name for stage in result.stages], result.stages
    assert names == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert stages[0].attacked == 24
    for before, after in pairwise(stages):
        assert after.attacked == before.attacked - before.broken
    assert int(result.success.sum()) == sum(stage.broken for stage in stages)
    assert 0 < int(result.success.sum()) < 24


def test_a_small_number_of_classes_is_recorded():
    assert "3 classes" in outcome("autoattack-standard").notes[0]


def test_breaks_a_saturated_model_that_plain_pgd_finds_robust():
    model, x, y = tilted_problem(24)
    saturated = Saturated(model)
    blind = PGD(eps=0.03, steps=20, start="clean").run(saturated, x, y)
    honest = shortened(AutoAttack(eps=0.03), 50).run(model, x, y).success
    seen = shortened(AutoAttack(eps=0.03), 50).run(saturated, x, y).success
    assert blind.zero_gradient.float().mean() > 0.5
    assert blind.success.sum() < honest.sum()
    assert torch.equal(seen, honest)


def test_rand_averages_over_twenty_draws():
    suite = AutoAttack(eps=0.03, version="rand").attacks
    assert list(suite) == ["apgd_ce", "apgd_dlr"]
    assert {attack.draws for attack in suite.values()} == {20}


def test_plus_adds_untargeted_attacks_with_five_restarts():
    suite = AutoAttack(eps=0.03, version="plus").attacks
    assert list(suite) == ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"]
    assert [suite[name].restarts for name in ("apgd_ce", "apgd_dlr", "fab")] == [5, 5, 5]


def test_refuses_an_unknown_version_and_a_target():
    with pytest.raises(InputError, match="standard, plus or rand"):
        AutoAttack(version="fast")
    model, x, y = tilted_problem(2)
    with pytest.raises(InputError, match="untargeted"):
        AutoAttack(eps=0.03).run(model, x, y, target=(y + 1) % 3)
