"""The iterative least-likely-class method is BIM, aimed."""

import pytest
import torch

from lightning_adv.attacks import BIM
from lightning_adv.attacks.least_likely import LeastLikely

from .problems import EPS, tilted_problem

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])


def clean_logits(model, x):
    with torch.no_grad():
        return model(x.double())


@every_norm
def test_is_bim_at_the_class_of_the_lowest_clean_logit(norm):
    model, x, y = tilted_problem()
    settings = {"eps": 1.5 * EPS[norm], "step_size": EPS[norm] / 3, "steps": 8, "norm": norm}
    aimed = BIM(**settings).run(model, x, y, target=clean_logits(model, x).argmin(dim=1))
    result = LeastLikely(**settings).run(model, x, y)
    assert torch.equal(result.images, aimed.images)
    assert torch.equal(result.success, aimed.success)
    assert 0 < result.success.sum() < len(x)


def test_succeeds_only_where_the_prediction_is_that_class():
    model, x, y = tilted_problem()
    result = LeastLikely(eps=0.075, step_size=0.02).run(model, x, y)
    reached = result.logits.argmax(dim=1)
    assert torch.equal(result.success, reached == clean_logits(model, x).argmin(dim=1))
    assert (reached != y).sum() > result.success.sum()  # some are fooled into another class, and that does not count


def test_where_the_label_is_the_least_likely_class_it_takes_the_next():
    model, x, _ = tilted_problem()
    ranked = clean_logits(model, x).argsort(dim=1)
    result = LeastLikely(eps=0.2, step_size=0.03).run(model, x, ranked[:, 0])
    assert torch.equal(result.success, result.logits.argmax(dim=1) == ranked[:, 1])


def test_by_default_it_takes_the_steps_of_the_paper():
    attack = LeastLikely()
    assert (attack.eps, attack.step_size, attack.steps) == (8 / 255, 1 / 255, 10)
    assert repr(attack) == "LeastLikely(eps=8/255, step_size=1/255, steps=10, norm=Linf)"
