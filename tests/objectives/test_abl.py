"""Anti-backdoor learning: the paper's losses."""

import pytest
import torch
import torch.nn.functional as F

from lightning_adv.errors import InputError
from lightning_adv.objectives import ABL, CrossEntropy, GradientAscent

from .problems import batch, smooth_net


def losses():
    model, (x, y) = smooth_net(), batch()
    return model, x, y, F.cross_entropy(model(x), y, reduction="none").detach()


def test_ascent_turns_the_loss_of_images_below_the_bound():
    model, x, y, each = losses()
    middle = len(each) // 2
    gamma = float(each.sort().values[middle - 1 : middle + 1].mean())  # between two images
    below = each < gamma
    assert int(below.sum()) == middle
    loss, logits = ABL(gamma)(model, x, y)
    assert loss.item() == pytest.approx(float(((1 - 2.0 * below) * each).mean()), rel=1e-5)
    assert torch.equal(logits, model(x).detach())


def test_ascent_moves_an_image_below_the_bound_up_and_one_above_it_down():
    model, x, y, each = losses()
    for image, label, own in zip(x.split(1), y.split(1), each, strict=True):
        for gamma, sign in ((float(own) + 0.1, -1), (max(0.0, float(own) - 0.1), 1)):
            (found,) = torch.autograd.grad(ABL(gamma)(model, image, label)[0], [next(model.parameters())])
            (plain,) = torch.autograd.grad(CrossEntropy()(model, image, label)[0], [next(model.parameters())])
            torch.testing.assert_close(found, sign * plain)


def test_flooding_is_the_distance_from_the_bound_above_the_bound():
    model, x, y, each = losses()
    loss = ABL(0.9, method="flooding")(model, x, y)[0]
    assert loss.item() == pytest.approx(float((each - 0.9).abs().mean() + 0.9), rel=1e-6)


def test_without_a_bound_it_is_the_cross_entropy():
    model, x, y, each = losses()
    assert ABL(0.0)(model, x, y)[0].item() == pytest.approx(float(each.mean()), rel=1e-6)


def test_unlearning_is_the_negative_cross_entropy():
    model, x, y, each = losses()
    assert GradientAscent()(model, x, y)[0].item() == pytest.approx(-float(each.mean()), rel=1e-6)


@pytest.mark.parametrize("wrong", [{"gamma": -0.1}, {"method": "descent"}])
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(InputError, match="ABL needs gamma >= 0 and a method of ascent, flooding"):
        ABL(**wrong)
