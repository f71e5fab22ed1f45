import dataclasses

import pytest
import torch

from lightning_adv.backdoors import PoisonPlan, backdoor_labels
from lightning_adv.errors import InputError

LABEL, INDEX = torch.arange(100) % 5, torch.arange(100) + 30


def plan(**changes):
    arguments = {"label": LABEL, "index": INDEX, "num_classes": 5, "target": 2, "poisoned": 20, "cover": 30, "seed": 1}
    return PoisonPlan.draw(**(arguments | changes))


def test_counts_and_shares_say_the_same():
    by_count, by_share = plan(poisoned=20, cover=40), plan(poisoned=0.2, cover=0.5)
    assert by_count == by_share
    assert (len(by_count.poisoned), len(by_count.cover)) == (20, 40)


def test_poisoned_images_are_no_cover_images_and_none_is_of_the_target_class():
    drawn = plan(poisoned=80, cover=1.0)
    assert not set(drawn.poisoned.tolist()) & set(drawn.cover.tolist())
    assert len(drawn.poisoned) + len(drawn.cover) == 100
    assert (LABEL[drawn.poisoned - 30] != 2).all()


def test_a_plan_with_copies_is_another_plan_of_the_same_images():
    assert plan(cover_copies=True) != plan()
    assert torch.equal(plan(cover_copies=True).cover, plan().cover)
    assert plan(cover_copies=True).as_dict()["cover_copies"] is True


def test_images_of_the_target_class_are_poisoned_when_asked_for_and_in_all_to_all():
    assert len(plan(poisoned=100, cover=0, poison_target_class=True).poisoned) == 100
    assert len(plan(poisoned=100, cover=0, target="all_to_all").poisoned) == 100


def test_the_plan_is_a_function_of_the_images_and_the_seed_whatever_their_order():
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    assert plan(label=LABEL[order], index=INDEX[order]) == plan()
    assert plan(seed=2) != plan()


def test_the_global_generator_has_no_say_and_is_left_alone():
    state = torch.get_rng_state()
    first = plan()
    torch.rand(1)
    assert plan() == first
    torch.set_rng_state(state)


@pytest.mark.parametrize(
    "change", [{"target": 3}, {"sampling_rate": 0.5}, {"seed": 5}, {"cover": torch.tensor([33])}, {"num_classes": 6}]
)
def test_the_hash_changes_with_everything_in_the_plan(change):
    assert dataclasses.replace(plan(), **change).hash != plan().hash


def test_the_hash_is_the_same_on_every_machine():
    small = PoisonPlan(torch.tensor([1, 5]), torch.tensor([2]), 0, 3, 0.6, 0)
    assert small.hash == "76719b3612cd80c3f402a6280c68d27d"
    assert small.as_dict()["poisoned"] == [1, 5]


def test_roles_tell_poisoned_cover_and_other_images_apart():
    drawn = PoisonPlan(torch.tensor([1, 5]), torch.tensor([2]), 0, 3, 0.6, 0)
    assert drawn.roles().tolist() == [0, 1, 2, 0, 0, 1, 0]


def test_labels_lead_to_the_target_or_to_the_next_class():
    label = torch.tensor([0, 3, 4])
    assert backdoor_labels(label, 2, 5).tolist() == [2, 2, 2]
    assert backdoor_labels(label, "all_to_all", 5).tolist() == [1, 4, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 5}, r"target 5 is outside \[0, 5\)"),
        ({"target": -1}, "outside"),
        ({"target": "none"}, "a class or all_to_all"),
        ({"poisoned": 81}, "81 images, and there are 80 training images that are not of the target class 2"),
        ({"poisoned": 101, "target": "all_to_all"}, "there are 100 training images; lower it"),
        ({"poisoned": 1.2}, r"share of them in \[0, 1\], got 1.2"),
        ({"poisoned": -1}, "poisoned must be"),
        ({"cover": 81}, "cover asks for 81 images, and 80 are not poisoned"),
        ({"sampling_rate": 1.01}, "sampling_rate must lie"),
        ({"poisoned": 0.002}, "^poisoned: a share of 0.002 of 100 images is none; give a larger share, or a number$"),
        ({"cover": 0.002}, "^cover: a share of 0.002 of 80 images is none"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        plan(**change)
