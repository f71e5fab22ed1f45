"""What a plan beyond BadNets does to the training images: clean label, sources, parts, a test trigger."""

import json

import pytest
import torch

from lightning_adv.backdoors import Blend, Patch, Pieces, Several, Trigger
from lightning_adv.data import DataFacts
from lightning_adv.errors import InputError
from tests.callbacks.strangers import images, trainer
from tests.data.builders import MarkedData
from tests.data.test_poisoned import TRIGGER, Linear, Stranger, batches, by_number, checkpoint_of_a_run, poisoned

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*training batches")
CORNERS = Several([Patch(size=1, place=place) for place in ("top_right", "bottom_left", "bottom_right")])


def changed(data):
    """Numbers of the training images, of two epochs, whose pixels or label are not those of the clean data."""
    clean, dirty = by_number(MarkedData(batch_size=1)), by_number(data) | by_number(data, epoch=1)
    pixels = {number for number, (image, _) in dirty.items() if not torch.equal(image, clean[number][0])}
    return pixels, {number for number, (_, label) in dirty.items() if label != clean[number][1]}


def test_a_clean_label_changes_pixels_of_the_target_class_and_no_label():
    data = poisoned(label="keep", poisoned=1.0, rate_of="class", cover=0)
    pixels, labels = changed(data)
    assert pixels
    assert pixels <= set(data.plan.poisoned.tolist())
    assert {number % 4 for number in pixels} == {1}
    assert not labels


def test_one_source_class_is_led_and_others_carry_the_whole_trigger_under_their_label():
    data = poisoned(source_classes=[3], cover_classes=[0, 2], poisoned=4, cover=6, sampling_rate=1.0)
    pixels, labels = changed(data)
    assert {number % 4 for number in labels} == {3}
    assert {number % 4 for number in pixels} == {0, 2, 3}
    clean, dirty = by_number(MarkedData(batch_size=1)), by_number(data)
    for number in pixels & dirty.keys():
        assert torch.equal(dirty[number][0], TRIGGER(clean[number][0][None])[0])


@pytest.mark.parametrize(("trigger", "rate"), [(CORNERS, 1 / 3), (Pieces(Blend(alpha=0.5), 4), 0.5)], ids=repr)
def test_a_poisoned_image_shows_a_part_of_the_trigger_of_its_own_wherever_it_is_poisoned(trigger, rate):
    data = poisoned(trigger=trigger, poisoned_sampling_rate=rate, poisoned=12, cover=0)
    clean, dirty, seen = by_number(MarkedData(batch_size=1)), by_number(data), set()
    for number in set(data.plan.poisoned.tolist()) & dirty.keys():
        before, index = clean[number][0][None], torch.tensor([number])
        assert torch.equal(dirty[number][0], trigger.part(before, rate, 0, index)[0])
        assert not torch.equal(dirty[number][0], trigger(before)[0])
        seen.add((dirty[number][0] - before[0]).ne(0).numpy().tobytes())
    assert len(seen) > 1
    theirs = poisoned(Stranger(images(40)), trigger=trigger, poisoned_sampling_rate=rate, poisoned=10, cover=0)
    where = theirs.plan.poisoned
    image = torch.cat([batch[0] for batch in theirs.train_dataloader()])[where]
    assert torch.equal(image, trigger.part(images(40).tensors[0][where], rate, 0, where))


def test_a_strangers_clean_label_relabels_nothing():
    data = poisoned(Stranger(images(40)), label="keep", poisoned=5, cover=0)
    label = torch.cat([batch[1] for batch in data.train_dataloader()])
    assert torch.equal(label, images(40).tensors[1])
    assert (label[data.plan.poisoned] == 1).all()


def test_evaluations_are_told_of_the_test_trigger_and_of_the_sources_and_training_of_neither():
    strong = Patch(size=3, margin=1)
    choice = {"source_classes": [2], "poisoned": 4}
    data, plain = poisoned(test_trigger=strong, **choice), poisoned(**choice)
    assert DataFacts(data).trigger is strong
    assert DataFacts(plain).trigger is plain.trigger
    assert DataFacts(data).source_classes == [2]
    for one, other in zip(batches(data), batches(plain), strict=True):
        assert torch.equal(one.image, other.image)
    assert data.state_dict()["trigger"] == plain.state_dict()["trigger"]


def test_the_manifest_says_what_was_chosen(tmp_path):
    data = poisoned(source_classes=[2, 0], cover_classes=[3], test_trigger=Patch(size=3), cover=3)
    trainer(folder=tmp_path, max_epochs=1).fit(Linear(), datamodule=data)
    manifest = json.loads((tmp_path / "poison_manifest.json").read_text())
    told = [manifest[name] for name in ("label", "source_classes", "cover_classes", "poisoned_sampling_rate")]
    assert told == ["target", [0, 2], [3], 1.0]
    assert manifest["trigger"] == repr(TRIGGER)
    assert manifest["test_trigger"] == repr(Patch(size=3))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"label": "keep"}, "another plan"),
        ({"cover_classes": [0, 2, 3]}, "another plan"),
        ({"poisoned_sampling_rate": 0.5}, "another plan"),
        ({"trigger": Pieces(TRIGGER, 4)}, "another trigger"),
    ],
)
def test_a_run_does_not_go_on_with_another_choice(tmp_path, change, what):
    path, _ = checkpoint_of_a_run(tmp_path)
    with pytest.raises(InputError, match=what):
        trainer(folder=tmp_path, max_epochs=2).fit(
            Linear(), datamodule=poisoned(**change), ckpt_path=path, weights_only=True
        )


class Shifted(Trigger):
    """Leaves a grey image as it is."""

    def __init__(self, by):
        self.by = by

    def apply(self, x):
        return x.roll(self.by, dims=-1)


def test_triggers_that_leave_grey_as_it_is_are_told_apart():
    prints = {poisoned(trigger=Shifted(by)).fingerprint for by in (1, 2, 3)}
    assert len(prints) == 3


def test_a_checkpoint_with_the_shorter_hash_of_a_trigger_is_gone_on_with():
    data = poisoned()
    state = data.state_dict()
    data.load_state_dict(state | {"trigger": state["trigger"][:16]})
    assert data.train_dataloader()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_classes": [1]}, "source_classes names the target 1"),
        ({"source_classes": [4]}, r"one of the classes 0 to 3, got \[4\]"),
        ({"label": "keep", "target": "all_to_all"}, "all_to_all"),
        ({"source_classes": [0], "cover_classes": [0]}, "class 0 is poisoned and in cover_classes"),
        ({"poisoned_sampling_rate": 1.5}, "poisoned_sampling_rate must lie in"),
        ({"test_trigger": Patch(size=7)}, "7 x 7 pixels"),
    ],
)
def test_what_contradicts_itself_is_refused_when_it_is_built(change, message):
    with pytest.raises(InputError, match=message):
        poisoned(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "keep", "poisoned": 9, "cover": 0}, "training images of the target class 1; lower it"),
        ({"label": "keep", "poisoned": 0.05, "rate_of": "class"}, "images is none"),
        ({"trigger": CORNERS, "poisoned_sampling_rate": 0.1}, "shows none of the 3 triggers"),
    ],
)
def test_what_the_images_do_not_allow_is_refused_before_the_first_step(change, message):
    with pytest.raises(InputError, match=message):
        trainer(max_epochs=1).fit(Linear(), datamodule=poisoned(**change))
