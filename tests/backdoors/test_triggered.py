import pytest
import torch
from torch import nn

from lightning_adv.backdoors import Patch, Triggered
from lightning_adv.errors import InputError

TARGET = 2


class Door(nn.Module):
    """Says the class of the brightest of the first three pixels, but the target where the last pixel is white."""

    def forward(self, x):
        flat = x.flatten(1)
        return flat[:, :3] + 5 * (flat[:, -1:] > 0.99) * torch.eye(3)[TARGET]


IMAGES = 0.5 * torch.eye(3, 16).view(3, 1, 4, 4).repeat(2, 1, 1, 1)
LABELS = torch.arange(3).repeat(2)


def test_an_image_is_turned_if_it_reaches_the_target_from_another_class():
    result = Triggered(Patch(size=1), TARGET).run(Door(), IMAGES, LABELS)
    assert torch.equal(result.images, Patch(size=1)(IMAGES))
    assert result.success.tolist() == [True, True, False] * 2
    assert result.restart.tolist() == [0, 0, -1] * 2
    assert not Triggered(Patch(size=1, place="top_left"), 1).run(Door(), IMAGES, LABELS).success.any()


def test_all_to_all_leads_every_class_to_the_next():
    assert (
        Triggered(Patch(size=1), "all_to_all").run(Door(), IMAGES, LABELS).success.tolist() == [False, True, False] * 2
    )


def test_it_says_what_it_is_and_has_no_budget():
    attack = Triggered(Patch(size=1), TARGET)
    assert attack.reaches
    assert not attack.has_budget
    assert repr(attack) != repr(Triggered(Patch(size=2), TARGET)) != repr(Triggered(Patch(size=2), 1))


def test_a_target_that_is_no_class_is_refused():
    with pytest.raises(InputError, match="outside"):
        Triggered(Patch(size=1), 3).run(Door(), IMAGES, LABELS)
    with pytest.raises(InputError, match="takes no target"):
        Triggered(Patch(size=1), TARGET).run(Door(), IMAGES, LABELS, target=LABELS)
