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


def test_a_clean_label_poisons_images_of_the_target_class_alone_and_relabels_none():
    drawn = plan(poisoned_label="keep", poisoned=0.5, rate_of="class", cover=0)
    own = LABEL[drawn.poisoned - 30]
    assert own.tolist() == [2] * 10
    assert torch.equal(drawn.led(own), own)
    assert plan().led(own).tolist() == [2] * 10
    assert plan(target="all_to_all").led(own).tolist() == [3] * 10


def test_only_source_classes_are_poisoned_and_only_cover_classes_cover():
    drawn = plan(source_classes=[1, 0], cover_classes=[3], poisoned=30, cover=15)
    assert LABEL[drawn.poisoned - 30].unique().tolist() == [0, 1]
    assert LABEL[drawn.cover - 30].unique().tolist() == [3]
    assert drawn.source_classes == (0, 1)


def test_without_cover_classes_no_source_is_covered():
    drawn = plan(source_classes=[1], poisoned=5, cover=80)
    assert LABEL[drawn.cover - 30].unique().tolist() == [0, 2, 3, 4]


def test_a_share_is_of_all_training_images_or_of_those_to_choose_from():
    of_set = plan(source_classes=[1, 3], cover_classes=[4], poisoned=0.1, cover=0.1)
    of_class = plan(source_classes=[1, 3], cover_classes=[4], poisoned=0.1, cover=0.1, rate_of="class")
    assert (len(of_set.poisoned), len(of_set.cover)) == (10, 9)
    assert (len(of_class.poisoned), len(of_class.cover)) == (4, 2)


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
    "change",
    [
        {"target": 3},
        {"sampling_rate": 0.5},
        {"seed": 5},
        {"cover": torch.tensor([33])},
        {"num_classes": 6},
        {"label": "keep"},
        {"source_classes": (1,)},
        {"cover_classes": (1,)},
        {"poisoned_sampling_rate": 0.5},
    ],
)
def test_the_hash_changes_with_everything_in_the_plan(change):
    assert dataclasses.replace(plan(), **change).hash != plan().hash


def test_the_hash_is_the_same_on_every_machine():
    small = PoisonPlan(torch.tensor([1, 5]), torch.tensor([2]), 0, 3, 0.6, 0)
    assert small.hash == "76719b3612cd80c3f402a6280c68d27d"
    assert small.as_dict()["poisoned"] == [1, 5]
    drawn = plan()  # also with what plans have learnt to say since, where it is not said
    assert drawn.hash == "366176636bc7ec23413ccc994897e072"


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
        ({"cover": 81}, "cover asks for 81 images, and there are 80 training images that are not poisoned; lower"),
        ({"sampling_rate": 1.01}, "sampling_rate must lie"),
        ({"poisoned": 0.002}, "^poisoned: a share of 0.002 of 100 images is none; give a larger share, or a number$"),
        ({"cover": 0.002}, "^cover: a share of 0.002 of 80 images is none"),
        ({"poisoned_sampling_rate": 0.0}, r"poisoned_sampling_rate must lie in \(0, 1\]"),
        ({"rate_of": "images"}, "set or class"),
        ({"poisoned_label": "none"}, "target or keep"),
        (
            {"poisoned_label": "keep", "poisoned": 21},
            "21 images, and there are 20 training images of the target class 2",
        ),
        ({"poisoned_label": "keep", "target": "all_to_all"}, "name it instead of all_to_all"),
        ({"poisoned_label": "keep", "source_classes": [1]}, "leave source_classes out"),
        ({"poisoned_label": "keep", "poisoned": 9, "cover_classes": [2]}, "class 2 is poisoned and in cover_classes"),
        ({"source_classes": [1, 2]}, "source_classes names the target 2"),
        ({"source_classes": [1], "cover_classes": [3, 1]}, "class 1 is poisoned and in cover_classes"),
        ({"source_classes": [5]}, r"source_classes must name at least one of the classes 0 to 4, got \[5\]"),
        ({"source_classes": []}, r"classes 0 to 4, got \[\]"),
        ({"cover_classes": [-1]}, "cover_classes must name"),
        ({"source_classes": [1], "poisoned": 21}, "21 images, and there are 20 training images of class 1; lower it"),
        ({"source_classes": [1], "poisoned": 0.01, "rate_of": "class"}, "a share of 0.01 of 20 images is none"),
        ({"cover_classes": [1, 3], "cover": 41}, "40|3[0-9] training images of classes 1, 3 that are not poisoned"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        plan(**change)
