"""Isolation by the loss: the lowest of all images, whatever their class."""

import pytest
import torch
import torch.nn.functional as F

from lightning_adv.errors import InputError
from lightning_adv.scans import LowestLoss
from tests.scans.problems import batches, images, model


def test_the_images_of_lowest_loss_are_isolated_over_all_classes():
    net, (image, label, number) = model(), images()
    with torch.no_grad():
        loss = F.cross_entropy(net(image), label, reduction="none")
    report = LowestLoss(share=0.05)(net, batches((image, label, number)))
    lowest = number[loss.argsort(stable=True)[: round(0.05 * len(loss))]]
    assert report.suspects.tolist() == sorted(lowest.tolist())
    torch.testing.assert_close(report.score, -loss, rtol=1e-5, atol=1e-6)
    assert sum(each.suspects for each in report.classes) == len(lowest)


def test_it_judges_no_class_and_says_of_none_that_it_could_not():
    report = LowestLoss()(model(), batches(images()))
    assert report.flagged is None
    assert not report.warnings


def test_batches_order_and_processes_change_nothing():
    scan, parts = LowestLoss(share=0.1), images()
    whole = scan(model(), batches(parts))
    shuffled = torch.randperm(len(parts[0]), generator=torch.Generator().manual_seed(1))
    found = scan(model(), batches(tuple(part[shuffled] for part in parts), 7))
    shared = scan.judge([scan.examine(model(), batches(parts, 30)[rank::2]) for rank in (0, 1)])
    assert torch.equal(found.suspect, whole.suspect)
    assert torch.equal(shared.suspect, whole.suspect)


def test_at_least_one_image_is_isolated():
    assert len(LowestLoss(share=1e-6)(model(), batches(images())).suspects) == 1


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_of_nothing_is_refused(share):
    with pytest.raises(InputError, match=r"share of the images must lie in \(0, 1\]"):
        LowestLoss(share)
