"""The tree attack reaches the nearest leaf of another class and changes nothing but what leads there."""

import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.victims import DecisionTreeAttack, DecisionTreeVictim
from tests.victims.problems import CLASSES, stripes


def test_every_image_changes_its_class_by_a_few_pixels():
    victim = DecisionTreeVictim().fit(*stripes(300))
    x, _ = stripes(60, seed=1)
    said = victim(x).argmax(dim=1)
    found = DecisionTreeAttack().run(victim, x, said)
    assert found.success.all()
    changed = (found.images != x).flatten(1).sum(dim=1)
    assert changed.min() >= 1
    assert changed.double().mean() < 4
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_a_stump_is_crossed_at_its_threshold():
    x = torch.tensor([0.2, 0.3, 0.6, 0.7]).view(4, 1, 1, 1).repeat(1, 1, 2, 2)
    victim = DecisionTreeVictim(depth=1).fit(x, torch.tensor([0, 0, 1, 1]))
    moved = DecisionTreeAttack(margin=0.01)(victim, x, torch.tensor([0, 0, 1, 1]))
    pixel = (moved != x)[0].flatten().nonzero().item()
    torch.testing.assert_close(moved.flatten(1)[:, pixel], torch.tensor([0.46, 0.46, 0.44, 0.44]))


def test_a_target_is_reached():
    victim = DecisionTreeVictim().fit(*stripes(300))
    x, _ = stripes(30, seed=2)
    said = victim(x).argmax(dim=1)
    target = (said + 1) % CLASSES
    assert DecisionTreeAttack().run(victim, x, said, target=target).success.all()


def test_an_image_that_is_misclassified_already_stays():
    victim = DecisionTreeVictim().fit(*stripes(300))
    x, _ = stripes(12, seed=3)
    wrong = (victim(x).argmax(dim=1) + 1) % CLASSES
    assert torch.equal(DecisionTreeAttack()(victim, x, wrong), x)


def test_another_model_is_refused():
    x, y = stripes(3)
    with pytest.raises(InputError, match="attacks a DecisionTreeVictim, got function"):
        DecisionTreeAttack()(lambda x: x.flatten(1), x, y)
