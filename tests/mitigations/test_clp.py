"""CLP computes the paper's constant of every channel, and prunes those that stand out, with no image in it."""

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.mitigations import CLP
from lightning_adv.mitigations.channels import Channels
from lightning_adv.mitigations.clp import lipschitz
from tests.mitigations.problems import DORMANT, halves, hand_built

LOUD = 5


def test_the_constant_is_the_kernels_largest_singular_value_times_what_batchnorm_scales_by():
    conv, norm = nn.Conv2d(2, 2, 2), nn.BatchNorm2d(2, eps=0.5)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 0, 0], conv.weight.data[0, 1, 1, 1] = 3.0, 4.0  # two directions: the larger one counts
    conv.weight.data[1, :, 0, 1] = torch.tensor([3.0, 4.0])  # one direction of length 5
    norm.weight.data, norm.running_var = torch.tensor([2.0, -1.0]), torch.tensor([3.5, 0.5])
    assert lipschitz(Channels("conv", conv)).tolist() == pytest.approx([4.0, 5.0])
    assert lipschitz(Channels("conv", conv, "norm", norm)).tolist() == pytest.approx([4 * 2 / 2, 5 * 1 / 1])


def loud(norm: bool = True) -> nn.Module:
    """Sixteen channels, one of which is far more sensitive than the others, by its scale or by its kernel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16) if norm else nn.Identity(), nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*layers, nn.Linear(256, 2))
    (model[1] if norm else model[0]).weight.data[LOUD] *= 30
    return model.eval()


@pytest.mark.parametrize("norm", [True, False])
def test_the_channel_that_stands_out_goes_whatever_the_images_are(norm):
    x, y = halves()
    for label in (y, 1 - y):
        model = loud(norm)
        report = CLP(u=3.0)(model, [(x, label)])
        (pruning,) = report.repair.prunings
        assert pruning.pruned == (LOUD,)
        assert pruning.layer == ("0 + 1" if norm else "0")
        with torch.no_grad():
            maps = model[:2](x)
        assert not maps[:, LOUD].any()
        assert maps[:, LOUD - 1].any()
        assert (model[0].weight[LOUD].abs().sum() > 0) == norm  # BatchNorm alone loses what it scales by


def test_a_chosen_u_is_the_smallest_that_clean_accuracy_allows():
    model, images = hand_built(norm=True), [halves()]
    report = CLP(accuracy_drop=0.0)(model, images)
    assert report.repair.prunings[0].pruned == (DORMANT,)
    assert report.correct_after == report.correct_before
    assert report.repair.threshold == min(each.threshold for each in report.repair.tried)


def test_models_and_numbers_that_do_not_suit_are_refused():
    with pytest.raises(InputError, match=r"no nn.Conv2d runs"):
        CLP()(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), [halves()])
    for wrong in ({"u": 0.0}, {"accuracy_drop": 2.0}):
        with pytest.raises(InputError, match="CLP needs u above 0"):
            CLP(**wrong)
