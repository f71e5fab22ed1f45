"""Every layout that networks are published in loads right, is asked about or is refused, and never loads wrong."""

import re
from functools import cache

import pytest

from experiments.open_models.layouts import LAYOUTS
from experiments.open_models.trials import Trial, tried

pytestmark = pytest.mark.xdist_group("layouts")  # one worker opens each once

BY_NAME = {str(layout): layout for layout in LAYOUTS if layout.there}
LOADED = [name for name, layout in BY_NAME.items() if layout.outcome == "loads right" and not layout.tells]


@cache
def trial(name: str) -> Trial:
    """Of a layout, which is opened once, whichever test asks first."""
    return tried(BY_NAME[name])


@pytest.mark.parametrize("name", BY_NAME)
def test_a_layout_loads_right_or_is_asked_about_or_refused(name):
    layout, found = BY_NAME[name], trial(name)
    assert found.outcome == layout.outcome, found
    assert re.search(layout.says, found.said), found.said
    assert "\n" not in found.said


def test_there_are_at_least_sixty_layouts_and_each_outcome_among_them():
    assert len(BY_NAME) == len([layout for layout in LAYOUTS if layout.there]) >= 60
    assert {layout.outcome for layout in BY_NAME.values()} == {"loads right", "asks", "refuses"}


def test_what_loads_right_could_have_loaded_wrong():
    """Logits that are the same for every image would be right whatever was loaded."""
    logits = {name: layout.logits() for name, layout in BY_NAME.items() if layout.outcome != "refuses"}
    assert not [name for name, each in logits.items() if (each[0] - each[1]).abs().max() < 1e-3]


def test_a_model_whose_statistics_are_missing_is_never_loaded_without_a_word():
    word = "it does not say how its images were normalised"
    assert [name for name in LOADED if any(word in note for note in trial(name).notes)] == LOADED != []


def test_a_file_that_tells_its_statistics_is_believed_before_the_data_and_nothing_is_asked():
    in_force = {name: trial(name).statistics for name, layout in BY_NAME.items() if layout.tells}
    assert in_force
    assert not [name for name, each in in_force.items() if each.assumed or each.origin == "the data"]
