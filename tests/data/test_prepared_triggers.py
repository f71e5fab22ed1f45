"""Triggers that are told before training which images will be poisoned."""

import pytest
import torch

from lightning_adv.backdoors import BPP, Patch
from tests.callbacks.strangers import images
from tests.data.builders import MarkedData, numbers_in
from tests.data.test_poisoned import Stranger, by_number, poisoned


class Noting(Patch):
    """A patch that keeps what it was told of the images that will carry it."""

    prepares = True

    def prepare(self, images):
        self.told = [torch.cat(part) for part in zip(*images, strict=True)]


@pytest.mark.parametrize("data", [MarkedData(batch_size=1), Stranger(images(40))], ids=["own", "stranger"])
def test_a_trigger_that_asks_is_told_of_the_poisoned_images_as_they_are_and_of_no_others(data):
    data = poisoned(data, trigger=Noting(size=2))
    loader = data.train_dataloader()
    shown, label, number = data.trigger.told
    assert number.tolist() == data.plan.poisoned.tolist()
    assert (label != 1).all()
    if isinstance(data.data, Stranger):
        clean, own = images(40).tensors
        assert torch.equal(shown, clean[number])
        assert torch.equal(label, own[number])
    else:
        assert numbers_in(shown) == number.tolist()
    assert len(loader) > 0
    del data.trigger.told
    data.train_dataloader()
    assert not hasattr(data.trigger, "told")  # once a run


def test_covered_images_carry_the_rounding_errors_of_poisoned_ones():
    data = poisoned(MarkedData(batch_size=1), trigger=BPP(levels=3))
    clean, dirty = by_number(MarkedData(batch_size=1)), by_number(data)
    errors = torch.stack([dirty[number][0] - clean[number][0] for number in data.plan.poisoned.tolist()])
    for number in data.plan.cover.tolist():
        before, (after, label) = clean[number], dirty[number]
        carried = (before[0] + errors).clamp(0, 1)
        assert (carried - after).abs().flatten(1).amax(dim=1).min() < 1e-6
        assert label == before[1]
