"""Triggers that are told before training which images will be poisoned."""

import pytest
import torch
from torch import nn

from lightning_adv.attacks import FGSM
from lightning_adv.backdoors import BPP, LabelConsistent, Patch
from lightning_adv.errors import InputError
from lightning_adv.modules import load_classifier
from tests.callbacks.recipes import classifier
from tests.callbacks.strangers import images
from tests.data.builders import MarkedData, numbers_in
from tests.data.test_poisoned import Stranger, by_number, poisoned
from tests.modules.test_stored import saved


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


class Linear(nn.Module):
    """A classifier of flattened images whose weights are a function of the number of pixels."""

    def __init__(self, pixels: int = 36, classes: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, pixels, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("workers", [None, 2])
def test_images_of_the_target_class_are_attacked_once_found_by_their_number_and_relabelled_never(workers):
    clean = MarkedData(batch_size=1) if workers is None else Stranger(images(40), num_workers=workers)
    network = Linear(36 if workers is None else 192)
    trigger = LabelConsistent(network, FGSM(eps=0.1), Patch(size=2))
    data = poisoned(clean, trigger=trigger, label="keep", poisoned=4, cover=0)
    plan, found = data.plan, {}
    if workers is None:
        before, after = by_number(MarkedData(batch_size=1)), by_number(data, epoch=1)
        found = {n: (*before[n], *after[n]) for n in after}
    else:
        image, label = (torch.cat(part) for part in zip(*data.train_dataloader(), strict=True))
        x, y = images(40).tensors
        found = {n: (x[n], int(y[n]), image[n], int(label[n])) for n in range(40)}
    assert {n for n, (x, _, x_now, _) in found.items() if not torch.equal(x, x_now)} == set(plan.poisoned.tolist())
    for number, (x, y, x_now, y_now) in found.items():
        assert y == y_now
        if number in plan.poisoned:
            assert y == 1
            crafted = FGSM(eps=0.1)(network, x[None], torch.tensor([y]))
            torch.testing.assert_close(x_now[None], Patch(size=2)(crafted))
    assert torch.equal(trigger(images(3).tensors[0]), Patch(size=2)(images(3).tensors[0]))
    assert network.weight.requires_grad


def test_the_attacked_network_may_be_a_checkpoint_and_is_opened_when_training_starts(tmp_path):
    path = saved(tmp_path, classifier())
    x, y = images(6).tensors
    batch = [(x, y, torch.arange(6))]
    of_file, of_module = (LabelConsistent(each, FGSM(eps=0.1)) for each in (str(path), load_classifier(path)))
    for trigger in (of_file, of_module):
        trigger.prepare(batch)
    made = [trigger.poison(x, 1.0, 0, torch.arange(6)) for trigger in (of_file, of_module)]
    torch.testing.assert_close(*made)
    assert not torch.equal(made[0], of_file(x))
    assert str(path) in repr(of_file)
    missing = LabelConsistent("nowhere.ckpt")
    with pytest.raises(InputError, match="nowhere"):
        missing.prepare(batch)
    with pytest.raises(InputError, match=r"give those of this shape to prepare\(\)"):
        missing.poison(x, 1.0, 0, torch.arange(6))


def test_a_run_does_not_go_on_with_images_that_another_network_or_attack_made():
    def data(network: nn.Module, attack: FGSM) -> object:
        return poisoned(MarkedData(batch_size=1), trigger=LabelConsistent(network, attack), label="keep", poisoned=4)

    network, attack = Linear(), FGSM(eps=0.1)
    state = data(network, attack).state_dict()
    same = data(Linear(), FGSM(eps=0.1))
    same.load_state_dict(state)
    same.train_dataloader()
    before = {"plan": state["plan"], "trigger": state["trigger"][:32], "data": state["data"]}
    for changed in (data(Linear(), FGSM(eps=0.2)), data(Linear(classes=5), attack)):
        changed.load_state_dict(before)
        changed.train_dataloader()  # a checkpoint from before did not know
        changed.load_state_dict(state)
        with pytest.raises(InputError, match="another trigger of poisoning"):
            changed.train_dataloader()
