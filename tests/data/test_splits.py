import pytest
import torch

from lightning_adv.data.splits import in_random_order, number_of_images, stratified_cuts
from lightning_adv.errors import InputError


def uneven_labels():
    return torch.cat([torch.full((count,), label) for label, count in enumerate([400, 100, 37, 3])])


def test_cuts_are_disjoint_and_complete():
    cuts = stratified_cuts(uneven_labels(), [50, 31], seed=0)
    assert [len(cut) for cut in cuts] == [50, 31, 459]
    assert sorted(torch.cat(cuts).tolist()) == list(range(540))


def test_every_cut_has_the_class_shares_of_the_whole():
    labels = uneven_labels()
    for cut in stratified_cuts(labels, [54, 108], seed=1):
        expected = labels.bincount() * len(cut) / len(labels)
        assert bool((labels[cut].bincount(minlength=4) - expected).abs().max() <= 1)


def test_the_seed_decides_the_cuts():
    cuts = [stratified_cuts(uneven_labels(), [60], seed)[0].tolist() for seed in (0, 0, 1)]
    assert cuts[0] == cuts[1]
    assert set(cuts[0]) != set(cuts[2])


def test_the_first_images_of_a_cut_are_a_mixture_of_classes():
    labels = torch.arange(10).repeat_interleave(100)
    assert len(labels[stratified_cuts(labels, [200], seed=0)[0][:30]].unique()) >= 8


def test_groups_are_never_torn_apart_and_the_sizes_are_met_closely():
    labels = torch.arange(5).repeat_interleave(240)
    groups = torch.arange(150).repeat_interleave(8)
    cuts = stratified_cuts(labels, [120, 60], seed=0, groups=groups)
    owners = [set(groups[cut].tolist()) for cut in cuts]
    assert not owners[0] & owners[1]
    assert not owners[2] & (owners[0] | owners[1])
    assert sorted(torch.cat(cuts).tolist()) == list(range(1200))
    assert labels[cuts[0]].bincount().tolist() == [24] * 5
    assert (labels[cuts[1]].bincount() - 12).abs().max() <= 4


def test_cuts_larger_than_the_whole_are_refused():
    with pytest.raises(InputError, match="cuts of 500, 41 images need more than the 540 there are"):
        stratified_cuts(uneven_labels(), [500, 41], seed=0)


def test_a_size_is_a_number_or_a_share():
    assert number_of_images(30, 100, "val_size") == 30
    assert number_of_images(0.25, 1000, "val_size") == 250
    assert number_of_images(0, 1000, "val_size") == 0


def test_a_whole_number_may_come_as_a_float():
    assert number_of_images(3.0, 10, "val_size") == 3


@pytest.mark.parametrize("size", [-1, -0.1, 1.0, 1.5, True, float("nan")])
def test_a_size_that_is_neither_is_refused(size):
    with pytest.raises(InputError, match="val_size must be a number of images"):
        number_of_images(size, 100, "val_size")


def test_only_a_set_sorted_by_class_is_reordered():
    mixed, by_class = torch.tensor([1, 0, 2, 1]), torch.arange(10).repeat_interleave(50)
    assert in_random_order(mixed, seed=0).tolist() == [0, 1, 2, 3]
    order = in_random_order(by_class, seed=0)
    assert sorted(order.tolist()) == list(range(500))
    assert len(by_class[order[:30]].unique()) >= 8
