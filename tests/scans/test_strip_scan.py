"""A filter of images one by one: the model says the last class wherever the first pixel is white."""

import json

import torch
from torch import nn

from lightning_adv.detectors import STRIP
from lightning_adv.scans import StripScan


class Door(nn.Module):
    """Unsure of every image but those with a white first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 36).repeat(3, 1) * torch.tensor([[1.0], [-1.0], [0.5]]))

    def forward(self, x):
        logits = x.flatten(1) @ self.weight.T
        return logits + 30 * (x[:, 0, 0, :1] > 0.99) * torch.tensor([0.0, 0.0, 1.0])


def parts(count: int, poisoned: int, seed: int):
    """Images [N, 1, 6, 6] without a white first pixel but for the first few of class 2, labels, numbers from 50."""
    image = 0.4 * torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    label = torch.arange(count) % 3
    image[(label == 2).nonzero().flatten()[:poisoned], 0, 0, 0] = 1.0
    return image, label, 50 + torch.arange(count)


CLEAN = [parts(200, 0, 1)]


def test_images_with_the_trigger_are_suspects_and_their_class_is_flagged():
    report = StripScan(overlays=16)(Door(), [parts(90, 12, 0)], CLEAN)
    assert set(report.index[report.worst(12)].tolist()) == {50 + 2 + 3 * place for place in range(12)}
    assert set(range(52, 52 + 36, 3)) <= set(report.suspects.tolist())
    assert report.flagged == [2]
    assert json.loads(json.dumps([each.flagged for each in report.classes])) == [False, False, True]
    assert len(report.suspects) <= 12 + 4


def test_clean_images_flag_no_class():
    assert StripScan(overlays=16)(Door(), [parts(90, 0, 0)], CLEAN).flagged == []


def test_the_score_is_that_of_the_detector_above_its_threshold():
    image, label, number = parts(30, 3, 0)
    detector = STRIP(overlays=8).fit(Door(), CLEAN)
    report = StripScan(overlays=8)(Door(), [(image, label, number)], CLEAN)
    torch.testing.assert_close(report.score, detector.score(Door(), image, index=number) - detector.threshold)
    assert torch.equal(report.suspect, detector.decide(Door(), image, index=number).suspicious)


def test_scores_depend_neither_on_batches_nor_on_the_order_of_the_images():
    image, label, number = parts(30, 3, 0)
    expected = StripScan(overlays=8)(Door(), [(image, label, number)], CLEAN)
    turned = [(image[rows], label[rows], number[rows]) for rows in torch.arange(30).flip(0).split(7)]
    found = StripScan(overlays=8)(Door(), turned, CLEAN)
    assert torch.equal(found.index, expected.index)
    torch.testing.assert_close(found.score, expected.score)
