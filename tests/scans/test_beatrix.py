import math

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.scans import Beatrix
from lightning_adv.scans.beatrix import discrepancy, gram_entries
from tests.scans.problems import batches, images, model


def test_gram_entries_are_those_of_the_equation():
    maps = torch.tensor([[[0.5, -2.0, 1.0], [1.0, 1.5, 0.25]]])
    found = gram_entries(maps, 3).view(3, 3)
    for order in (1, 2, 3):
        powers = maps[0] ** order
        gram = (powers @ powers.T)[[0, 0, 1], [0, 1, 1]]
        torch.testing.assert_close(found[order - 1], gram.sign() * gram.abs() ** (1 / order))


@pytest.mark.parametrize("size", [1e9, 1e-9])
def test_entries_of_high_orders_neither_overflow_nor_vanish(size):
    maps = torch.rand(2, 3, 16, generator=torch.Generator().manual_seed(0)) + 0.5
    torch.testing.assert_close(gram_entries(size * maps, 8) / size**2, gram_entries(maps, 8), rtol=1e-4, atol=0)


def test_a_map_of_nothing_has_entries_of_nothing():
    assert not gram_entries(torch.zeros(1, 2, 4), 8).any()


def test_the_discrepancy_of_two_points_is_that_of_the_kernel():
    # All distances between the groups are 3, within them 0: the width is 3, the kernel between is exp(-1/2).
    found = discrepancy(torch.zeros(2, 1).double(), torch.full((4, 1), 3.0).double())
    assert found == pytest.approx(8 / 6 * (2 - 2 * math.exp(-0.5)))


def test_groups_of_one_distribution_differ_little_and_others_much():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 5, generator=generator).double()
    assert discrepancy(features[:50], features[50:]) < 2
    assert discrepancy(features[:50] + 2, features[50:]) > 10


def test_scores_are_clipped_deviations_from_clean_images_of_the_class():
    scan = Beatrix(orders=1, clip=3.0)
    entries = torch.tensor([[1.0, 5.0, 2.0], [1.0, 2.0, 2.5]])
    found = scan._deviation(entries, torch.tensor([1.0, 2.0, 2.0]), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([3 / 3, 0.5 / 3]))


def test_a_model_without_a_convolution_or_a_class_without_clean_images_is_refused():
    with pytest.raises(InputError, match="map of a convolution"):
        Beatrix().check(nn.Sequential(nn.Flatten(), nn.Linear(16, 6)), images()[0][:1])
    with pytest.raises(InputError, match="map of a convolution, and 2 has none"):
        Beatrix(layer="2").check(model(), images()[0][:1])
    image, label, number = images(each=20, poisoned=0)
    few = (label != 4) | (number < 130)
    with pytest.raises(InputError, match="class 4 has"):
        Beatrix()(model(), batches(images()), [(image[few], label[few], number[few])])
