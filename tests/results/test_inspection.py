import json
import math
from dataclasses import replace

import pytest
import torch

from lightning_adv.inspectors import ClassTrigger, InspectionReport, SecondLook, find_largest, find_outliers
from lightning_adv.reports.storage import _finite
from lightning_adv.results.figures import png
from lightning_adv.results.inspection import InspectionResult
from lightning_adv.results.inspection_figures import anomaly_bars, anomaly_course, trigger_grid

NORMS = [60.0, 75.0, 6.0, 80.0, 66.0, math.inf, 71.0]
TARGET, FAILED = 2, 5
ALIKE = [60.0, 75.0, 62.0, 80.0, 66.0, 70.0, 71.0]


def report(norms=NORMS, channels=1, **options):
    triggers = [
        ClassTrigger(
            label,
            torch.rand(1, 6, 6),
            torch.rand(channels, 6, 6),
            norm,
            0.99,
            "converged" if math.isfinite(norm) else "never succeeded",
            30,
            ((1, 0.0), (6, 1e-3)),
        )
        for label, norm in enumerate(norms)
    ]
    return InspectionReport("NeuralCleanse(steps=30)", tuple(triggers), find_outliers(norms), 90, 2880, **options)


def result(**options):
    names = [f"sign {k}" for k in range(len(NORMS))]
    return InspectionResult(title="Search", reports={"nc": report(**options)}, samples=1000, class_names=names)


def test_scalars_have_the_keys_of_the_loggers_and_only_numbers():
    scalars = result().scalars()
    outliers = find_outliers(NORMS)
    assert scalars["nc/anomaly_index/class_2"] == outliers.index[TARGET]
    assert scalars["nc/norm/class_0"] == 60.0
    assert scalars["nc/p_value"] == outliers.p_value
    assert scalars["nc/flagged_classes"] == 1
    assert f"nc/norm/class_{FAILED}" not in scalars
    assert all(math.isfinite(value) for value in scalars.values())


@pytest.mark.parametrize(
    ("norms", "status", "steps", "short"),
    [
        (NORMS, "converged", 30, "Suspected"),
        (NORMS, "budget exhausted", 100, "Perhaps"),
        (NORMS, "budget exhausted", 30, "No verdict"),
        (ALIKE, "converged", 30, "None found"),
        (ALIKE, "budget exhausted", 100, "No verdict"),
    ],
)
def test_searches_most_of_which_had_not_ended_neither_accuse_nor_acquit(norms, status, steps, short):
    whole = report(norms)
    triggers = tuple(replace(each, status=status, steps=steps) for each in whole.triggers)
    shown = InspectionResult(
        title="Search", reports={"nc": replace(whole, triggers=triggers)}, samples=9, class_names=["a"] * 7
    )
    assert shown.answer().short == short
    assert ("means nothing" in shown.summary()) == (status != "converged" and steps < 75)


def test_the_summary_names_the_flagged_class_and_the_corrected_verdict():
    text = result().summary()
    assert "nc flags class 2 (sign 2)" in text
    assert f"p = {find_outliers(NORMS).p_value:.2g} for 7 classes" in text


@pytest.mark.parametrize(
    ("norms", "alone"),
    [
        ([60.0, 75, 40, 80, 66, 77, 71], "class 2 (sign 2)"),
        ([60.0, 61, 1, 62, 63, 55, 64], "class 5 (sign 5)"),
        ([60.0, 61, 1, 62, 63, 64, 65], None),
        ([60.0, 61, 62, 63, 64, 65, 66], None),
    ],
    ids=["the paper's rule alone", "one class by both, one by the rule alone", "by both", "by neither"],
)
def test_which_of_two_verdicts_that_differ_to_believe_is_said_and_only_then(norms, alone):
    found = report(norms)
    text = InspectionResult(
        title="", reports={"nc": found}, samples=9, class_names=[f"sign {k}" for k in range(7)]
    ).summary()
    assert (found.flagged != found.significant) == (alone is not None) == ("Believe the corrected verdict" in text)
    assert alone is None or f"what only the paper's rule flags, as {alone} here, is a suspicion" in text


def test_the_summary_of_a_clean_model_flags_nothing():
    clean = InspectionResult(title="", reports={"nc": report([60.0, 61, 62, 63, 64])}, samples=9, class_names=["a"] * 5)
    assert clean.summary().startswith("nc flags no class")


def test_without_a_verdict_the_summary_says_so():
    none = InspectionResult(title="", reports={"nc": report([60.0, math.inf])}, samples=9, class_names=["a", "b"])
    assert (
        none.summary()
        == "nc has no verdict: a trigger was found for 1 of 2 classes, and a median needs more than half of them."
    )


def test_two_classes_have_no_verdict_anywhere_and_the_reason_beside_it():
    two = InspectionResult(title="", reports={"nc": report([3.0, 70.0])}, samples=9, class_names=["a", "b"])
    assert two.summary().startswith("nc has no verdict: of 2 norms the smallest has an anomaly index of at most 0.67")
    assert two.scalars() == {"nc/norm/class_0": 3.0, "nc/norm/class_1": 70.0, "nc/exhausted_classes": 0}
    verdict, classes = two.tables()
    assert verdict.rows[0][1:4] == ["no verdict", "no verdict", None]
    assert [row[2:4] for row in classes.rows] == [[None, None], [None, None]]
    data = json.loads(json.dumps(_finite(two.as_dict())))["inspectors"]["nc"]
    assert [data[key] for key in ("judged", "flagged", "significant", "p_value")] == [False, None, None, None]
    assert [each["anomaly_index"] for each in data["classes"]] == [None, None]
    assert [picture.name for picture in two.pictures()] == ["nc_triggers"]
    assert "nan" not in " ".join(each.get_title() for each in trigger_grid(two.reports["nc"], ["a", "b"]).axes)


def test_searches_that_ended_with_their_steps_stand_beside_the_verdict():
    unfinished = report()
    unfinished = replace(
        unfinished,
        triggers=tuple(replace(each, status="budget exhausted") for each in unfinished.triggers[:3])
        + unfinished.triggers[3:],
    )
    shown = InspectionResult(title="", reports={"nc": unfinished}, samples=9, class_names=[])
    assert "3 of 7 searches ended with their steps" in shown.summary()
    assert shown.scalars()["nc/exhausted_classes"] == 3
    assert shown.as_dict()["inspectors"]["nc"]["exhausted"] == [0, 1, 2]


def test_a_model_that_could_not_have_been_flagged_is_not_called_unflagged_without_a_word():
    wide = [100.0, 60, 30, 80, 10, 45, 20]
    shown = InspectionResult(title="", reports={"nc": report(wide)}, samples=9, class_names=["a"] * 7)
    assert shown.summary().startswith("nc flags no class, and could not have flagged any")


def test_the_classes_stand_by_suspicion_and_the_failed_one_last():
    table = result().tables()[1]
    assert table.rows[0][0] == "class 2 (sign 2)"
    assert table.rows[-1][0] == "class 5 (sign 5)"
    assert table.rows[-1][1] is None
    assert table.rows[-1][5] == "never succeeded"


def test_warnings_of_an_inspector_carry_its_name():
    assert result(warnings=("mind this",)).warnings == ["nc: mind this"]


def test_plain_data_holds_every_class_with_its_cost_history():
    data = json.loads(json.dumps(_finite(result().as_dict())))
    classes = data["inspectors"]["nc"]["classes"]
    assert [each["label"] for each in classes] == list(range(len(NORMS)))
    assert classes[0]["costs"] == [[1, 0.0], [6, 1e-3]]
    assert classes[FAILED]["norm"] is None


@pytest.mark.parametrize(("bf16", "precision"), [(False, "float32"), (True, "bf16")])
def test_the_precision_of_the_search_is_said(bf16, precision):
    found = result(bf16=bf16)
    assert {each["precision"] for each in found.as_dict()["inspectors"].values()} == {precision}
    verdicts = next(table for table in found.tables() if table.title == "Verdicts")
    assert all(str(row[-1]).endswith("searched in bf16") is bf16 for row in verdicts.rows)


def test_the_course_is_drawn_from_the_second_epoch_on():
    one = result()
    key = "val/nc/anomaly_index/class_2"
    one.history = {key: [[1, 2.0]]}
    assert [picture.name for picture in one.pictures()] == ["nc_triggers", "nc_anomaly_index"]
    one.history = {key: [[1, 2.0], [2, 4.0]]}
    assert one.pictures()[-1].name == "nc_anomaly_over_epochs"


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_smallest_triggers_are_drawn_first_and_at_most_twenty(channels):
    many = report([float(norm) for norm in range(60, 30, -1)], channels)
    axes = trigger_grid(many, [str(k) for k in range(30)]).axes
    titles = [each.get_title().split("\n")[0] for each in axes if each.get_title()]
    assert titles == [str(k) for k in range(29, 9, -1)]


def test_the_bars_are_the_indices_and_the_line_the_threshold():
    axes = anomaly_bars(report(), [str(k) for k in range(7)]).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([0 if math.isnan(i) else i for i in find_outliers(NORMS).index])
    assert axes.lines[0].get_ydata()[0] == 2.0


def test_every_picture_of_many_classes_can_be_drawn():
    many = report([60.0 + k % 7 for k in range(120)])
    courses = {k: [(1, 1.0), (2, 2.0)] for k in range(120)}
    names = [f"class with a long name {k}" for k in range(120)]
    for figure in (trigger_grid(many, names), anomaly_bars(many, names), anomaly_course(courses, many, names)):
        assert png(figure, dpi=40).startswith(b"\x89PNG")


def test_of_many_classes_those_without_a_trigger_are_counted_and_not_listed():
    some = [60.0 + k for k in range(12)] + [math.inf] * 988
    many = InspectionResult(
        title="Search", reports={"nc": report(some)}, samples=9, class_names=list(map(str, range(1000)))
    )
    table = many.tables()[1]
    assert [row[0] for row in table.rows] == [f"class {k}" for k in range(12)]
    assert "988 of 1,000 classes had none" in table.note
    few = result().tables()[1]
    assert few.rows[-1][5] == "never succeeded", "of few classes each is listed"


def margins():
    values = [20.0, 21, 70, 19, 22, 20, 18]
    triggers = [
        ClassTrigger(k, torch.ones(1, 6, 6), torch.rand(1, 6, 6), v, 1.0, "converged", 9) for k, v in enumerate(values)
    ]
    return InspectionReport("MMBD()", tuple(triggers), find_largest(values), measure="margin", large=True)


def test_large_values_are_listed_from_the_largest_on_under_a_name_of_their_own():
    shown = InspectionResult(title="", reports={"mm": margins()}, samples=9, class_names=["a"] * 7)
    assert shown.answer().short == "Suspected"
    assert "adversarially" in shown.answer().text
    assert "by the paper's Gamma distribution" in shown.summary()
    _, classes = shown.tables()
    assert classes.columns[1] == "Margin"
    assert [row[1] for row in classes.rows[:2]] == [70.0, 22.0]
    assert shown.scalars()["mm/margin/class_2"] == 70.0
    axes = trigger_grid(margins(), ["a"] * 7).axes
    assert len(axes) == 7
    assert axes[0].get_title().startswith("a\n70")


@pytest.mark.parametrize(("index", "short"), [(9.0, "Suspected"), (1.0, "None found")])
def test_the_report_leads_with_what_stands_out_beside_references(index, short):
    p = 1e-4 if index > 5 else 0.7
    look = SecondLook((0.0, 0, index, 0, 0, 0, 0), (1.0, 1, p, 1, 1, 1, 1), 0.05, 3, ("nc",))
    shown = replace_second(result(), look)
    assert shown.answer().short == short
    assert shown.summary().startswith("Beside 3 networks of your own, " + ("class 2" if index > 5 else "no class"))
    assert shown.scalars()["second_look/flagged_classes"] == (index > 5)
    assert shown.tables()[0].rows[0][:2] == ["class 2 (sign 2)", index]
    assert json.loads(json.dumps(shown.as_dict()["second_look"]))["references"] == 3


def test_references_of_another_kind_are_said_to_be():
    look = SecondLook((0.0,) * 7, (1.0,) * 7, 0.05, 3, ("nc",))
    assert "not of its kind" not in replace_second(result(), look).summary()
    told = replace_second(result(), replace(look, unlike=3.25)).summary()
    assert "differ from those of your networks 3.2 times as much as these from each other" in told


def replace_second(shown, look):
    return InspectionResult(title="", reports=shown.reports, samples=9, class_names=shown.class_names, second=look)
