"""What the page of published networks says of searches: whole, broken off, and by both verdicts."""

import json
from dataclasses import replace

import pytest
import torch

from experiments.kept import content
from experiments.open_models.layouts import LAYOUTS
from experiments.open_models.measure import box_of
from experiments.open_models.tables import inspection_table, layouts_table, verdicts_table
from experiments.open_models.trials import Trial
from experiments.page import RESULTS
from experiments.subjects import SUBJECTS

NAME = "mnist_badnet_target1"
NORMS = [60.0, 5, 64, 75, 62, 70, 66, 61, 68, 71]


def searches(norms: list[float]) -> dict[str, dict]:
    """Of each class, a mask that is the published square less its lowest row and a bit beside it."""
    mask = torch.zeros(28, 28)
    mask[23:27, 23:28] = 1
    mask[0, 0] = 0.4
    cost = {"steps": 2, "seconds": 1.5, "success_rate": 1.0, "status": "converged", "image_passes": 9}
    place = {"box": box_of(mask), "rows": mask.sum(1).tolist(), "columns": mask.sum(0).tolist()}
    found = [{"label": label, "norm": norm, **place, **cost} for label, norm in enumerate(norms)]
    return {f"{NAME}/authors_{each['label']}.json": each for each in found}


def row(norms: list[float], tmp_path) -> dict[str, object]:
    table = inspection_table(searches(norms), tmp_path)
    return dict(zip(table.columns, table.rows[0], strict=True))


def test_a_whole_search_is_judged_by_both_rules_and_its_mask_compared_with_the_trigger(tmp_path):
    found = row(NORMS, tmp_path)
    assert (found["flagged"], found["corrected"], found["classes"]) == ("1", "1", 10)
    assert (found["its mask"], found["the trigger"]) == (
        "rows 23 to 26, columns 23 to 27",
        "rows 23 to 27, columns 23 to 27",
    )
    assert found["weight of the mask in it"] == pytest.approx(20 / 20.4)
    assert (found["steps"], found["CPU seconds"]) == (20, 15)


def test_a_search_of_some_classes_has_no_verdict(tmp_path):
    found = row(NORMS[:3], tmp_path)
    assert (found["classes"], found["flagged"], found["corrected"], found["its index"]) == ("3 of 10", "", "", None)
    assert found["target's norm"] == 5


def test_a_backdoor_that_only_the_papers_rule_sees_counts_so():
    def counted(norms: list[float]) -> list[object]:
        return next(each for each in verdicts_table(searches(norms)).rows if "published" in str(each[0]))[1:]

    assert counted(NORMS) == [1, 1, 0, 0]
    assert counted([NORMS[0], 45.0, *NORMS[2:]]) == [1, 0, 1, 0]
    assert counted([NORMS[0], 65.0, *NORMS[2:]]) == [1, 0, 0, 1]


def test_every_inspection_that_is_kept_is_counted():
    kept = 0
    for stem in ("concealed_backdoors", "concealed_backdoors_wide"):
        records = json.loads((RESULTS / f"{stem}.json").read_text())["repeats"].values()
        kept += sum("neural_cleanse" in content(each) for each in records)
    table = verdicts_table(searches(NORMS))
    assert sum(row[1] for row in table.rows if str(row[0]).startswith("all ")) == kept + 1
    assert kept > 70


def test_there_is_a_control_without_a_backdoor_for_those_with_one():
    assert {each.target is None for each in SUBJECTS.values()} == {True, False}
    assert all((each.target is None) == (each.trigger is None) for each in SUBJECTS.values())


def test_a_layout_that_did_not_become_what_it_must_stands_in_a_row_of_its_own_and_is_not_counted_as_wanted():
    layout = replace(LAYOUTS[0], outcome="loads right")
    table = layouts_table(
        [
            (layout, Trial("loads right", 1e-6, "", (), None)),
            (layout, Trial("loads wrong", 0.2, "", (), None)),
            (replace(layout, kind="another"), Trial("loads right", 0.0, "", (), None)),
        ]
    )
    assert [row[2:] for row in table.rows] == [[1, "loads right", 1e-6], [1, "loads wrong", 0.2], [1, "loads right", 0]]
    assert [row[1] for row in table.rows] == [layout.name, "the same", "the same"]
    assert "2 of 3 files" in " ".join(table.note.split())
