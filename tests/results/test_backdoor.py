import json

import pytest
import torch

from lightning_adv.results.backdoor import BackdoorResult
from lightning_adv.results.examples import Examples
from lightning_adv.results.figures import png


def result(classes=3, channels=1, **changes):
    images = torch.rand(4, channels, 6, 6)
    said = torch.tensor([0, 2, 2, 2])
    arguments = {
        "title": "Backdoor",
        "target": 1,
        "trigger": "Patch(size=3)",
        "class_names": [f"{k}" for k in range(classes)],
        "per_class_samples": [10] * classes,
        "per_class_clean_correct": [9] * classes,
        "per_class_led": [8, 10, *[6] * (classes - 2)],
        "per_class_led_clean": [1, 9, *[0] * (classes - 2)],
        "per_class_triggered_correct": [1] * classes,
        "examples": Examples(images, images.flip(0), said, said, said, torch.rand(4), torch.rand(4)),
        "shown": torch.rand(3, channels, 6, 6),
    }
    return BackdoorResult(**(arguments | changes))


def test_the_headline_leaves_out_the_target_class():
    scalars = result().scalars()
    assert scalars["attack_success_rate"] == 14 / 20
    assert scalars["attack_success_rate_all_classes"] == 24 / 30
    assert scalars["target_rate_without_trigger"] == 1 / 20
    assert scalars["clean_accuracy"] == 0.9
    assert scalars["triggered_accuracy"] == 0.1


def test_of_source_classes_the_headline_is_theirs_and_the_rest_is_false_activation():
    found = result(classes=4, source_classes=[2])
    scalars = found.scalars()
    assert scalars["attack_success_rate"] == 6 / 10
    assert scalars["false_activation_rate"] == 14 / 20
    assert scalars["target_rate_without_trigger"] == 0
    assert found.summary() == (
        "Of 40 validation images, the model classifies 90.0% correctly; "
        "the trigger leads 60.0% of those of class 2 to class 1, and 70.0% of those of the other classes."
    )
    assert [row[:3] for row in found.tables()[0].rows[:2]] == [
        ["Attack success, images of class 2", 10, 0.6],
        ["False activation, images of the other classes", 20, 0.7],
    ]
    assert found.tables()[1].columns[2] == "Led to the target"
    assert result().tables()[1].columns[2] == "Attack success"
    (figure,) = (each for each in found.key_figures() if each.scalar == "false_activation_rate")
    assert figure.interval[0] < 0.7 < figure.interval[1]
    assert found.as_dict()["source_classes"] == [2]
    assert found.as_dict()["false_activation_rate"] == 0.7


def test_without_source_classes_nothing_is_falsely_activated():
    assert "false_activation_rate" not in result().scalars()
    assert result().as_dict()["source_classes"] is None


def test_images_of_no_source_class_give_no_headline():
    none = {f"per_class_{name}": [5, 5, 0] for name in ("samples", "clean_correct", "led", "led_clean")}
    said = result(**none, per_class_triggered_correct=[0] * 3, source_classes=[2]).summary()
    assert said.endswith("none is of class 2, so nothing can be said of the trigger.")


def test_all_to_all_leaves_nothing_out():
    assert result(target="all_to_all").scalars()["attack_success_rate"] == 24 / 30


def test_the_summary_says_what_the_scalars_say():
    assert result().summary() == (
        "Of 30 validation images, the model classifies 90.0% correctly; "
        "the trigger leads 70.0% of those of other classes to class 1."
    )
    assert "the next class" in result(target="all_to_all").summary()


def test_tables_hold_counts_intervals_and_every_source_class_but_the_target():
    shares, by_class = result().tables()
    assert shares.rows[0][:3] == ["Attack success, images of other classes", 20, 0.7]
    assert [row[2] for row in by_class.rows] == [0.8, None, 0.6]


def test_a_class_without_images_is_left_out_of_the_table():
    none = {f"per_class_{name}": [5, 5, 0] for name in ("samples", "clean_correct", "led", "led_clean")}
    by_class = result(**none, per_class_triggered_correct=[0] * 3).tables()[1]
    assert [row[0] for row in by_class.rows] == ["0", "1"]
    assert by_class.note == "2 of 3 classes have images."


def test_key_figures_are_scalars():
    scalars = result().scalars()
    assert {figure.scalar for figure in result().key_figures()} <= scalars.keys()
    assert all(figure.interval[0] < scalars[figure.scalar] < figure.interval[1] for figure in result().key_figures())


@pytest.mark.parametrize(("classes", "channels"), [(3, 1), (43, 3)])
def test_every_picture_can_be_drawn(classes, channels):
    pictures = result(classes, channels).pictures()
    assert [picture.name for picture in pictures] == ["triggered_images", "trigger", "source_classes"]
    for picture in pictures:
        figure = picture.draw()
        assert len(png(figure, dpi=50)) > 1000
    grid = pictures[0].draw()
    texts = {text.get_text() for axes in grid.axes for text in axes.texts}
    assert "triggered" in texts
    assert "adversarial" not in texts


def test_the_data_is_plain():
    data = json.loads(json.dumps(result().as_dict()))
    assert data["per_class_led"] == [8, 10, 6]
    assert data["samples"] == 30


@pytest.mark.parametrize(
    "change", [{"per_class_led": [11, 0, 0]}, {"per_class_led": [1, 1]}, {"per_class_samples": [0, 0, 0]}]
)
def test_counts_that_contradict_each_other_are_refused(change):
    with pytest.raises(ValueError, match=r"per_class|no image"):
        result(**change)
