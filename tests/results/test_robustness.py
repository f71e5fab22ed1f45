import dataclasses
import json

import pytest

from lightning_adv.results.attack_row import AttackRow
from lightning_adv.results.shares import wilson_interval
from tests.results.samples import attack, examples


def test_scalars_are_shares_of_counts(robustness):
    scalars = robustness().scalars()
    expected = {"clean_accuracy": 0.9, "worst_case/robust_accuracy": 0.45, "fgsm/robust_accuracy": 0.6}
    assert {name: scalars[name] for name in expected} == expected
    assert scalars["pgd/success_rate"] == pytest.approx(40 / 90)
    assert "pgd/mean_l1" not in scalars, "what was not measured is no scalar"


def test_the_summary_table_has_clean_images_first_and_the_worst_case_last(robustness):
    table = robustness().tables()[0]
    accuracy = table.columns.index("Accuracy")
    assert [(row[0], row[accuracy]) for row in table.rows] == [
        ("none", 0.9),
        ("fgsm", 0.6),
        ("pgd", 0.5),
        ("worst case", 0.45),
    ]


def test_class_accuracies_divide_by_the_images_of_the_class(robustness):
    table = robustness().tables()[-1]
    assert table.rows[1] == ["dog", 40, 35 / 40, 25 / 40, 20 / 40, 18 / 40]


def test_a_class_without_images_is_left_out_of_the_table(robustness):
    alone = {"per_class_samples": [100, 0], "per_class_clean_correct": [90, 0], "worst_case_per_class": [45, 0]}
    result = robustness(**alone, attacks=[attack("pgd", [50, 0])])
    table = result.tables()[-1]
    assert [row[0] for row in table.rows] == ["cat"]
    assert table.note == "1 of 2 classes have images."


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 99},
        {"clean_correct": 91},
        {"per_class_clean_correct": [65, 25]},
        {"worst_case_correct": 55, "worst_case_per_class": [33, 22]},
        {"curves": {"unknown": [(0.1, 0.5)]}},
        {"samples": 0, "per_class_samples": [0, 0]},
    ],
)
def test_counts_that_contradict_each_other_are_refused(robustness, wrong):
    with pytest.raises(ValueError):
        robustness(**wrong)


def test_pictures_come_for_what_was_measured(robustness):
    assert [picture.name for picture in robustness().pictures()] == ["class_accuracy"]
    measured = robustness(
        curves={"pgd": [(0.1, 0.7), (0.2, 0.5)]},
        examples={"fgsm": examples()},
        clean_confidences=[0.9] * 100,
        adversarial_confidences={"fgsm": [0.5] * 100, "pgd": [0.4] * 100},
    )
    pictures = {picture.name: picture for picture in measured.pictures()}
    assert list(pictures) == ["fgsm_examples", "accuracy_curve_linf", "class_accuracy", "confidence"]
    assert pictures["confidence"].title == "Confidence under pgd", "the strongest attack"
    line = pictures["accuracy_curve_linf"].draw().axes[0].lines[0].get_xydata().tolist()
    assert line == [[0.0, 0.9], [0.1, 0.7], [0.2, 0.5]], "clean accuracy stands at eps 0"


def test_a_curve_on_other_images_does_not_borrow_the_clean_accuracy(robustness):
    result = robustness(curves={"pgd": [(0.1, 0.7)]}, curve_samples={"pgd": 10})
    assert result.pictures()[0].draw().axes[0].lines[0].get_xydata().tolist() == [[0.1, 0.7]]


def test_as_dict_is_plain_data_and_carries_the_intervals(robustness):
    result = robustness(examples={"pgd": examples()}, clean_confidences=[1.0] * 100)
    plain = result.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["attacks"][1]["interval"] == list(wilson_interval(50, 100))
    assert plain["clean_confidence_histogram"][-1] == 100
    assert plain["examples"]["pgd"]["linf"] == pytest.approx([0.2] * 3)


def test_the_summary_names_the_strongest_attack(robustness):
    summary = robustness().summary()
    assert "90.0%" in summary
    assert "50.0% stay correct under pgd" in summary
    assert "45.0%" in summary


def test_gradient_masking_is_tabled_only_when_measured(robustness):
    row = AttackRow(**(vars(attack("pgd", [30, 20])) | {"zero_gradient_share": 0.25, "restart_gain": 0.01}))
    titles = [table.title for table in robustness(attacks=[row]).tables()]
    assert "Signs of gradient masking" in titles
    assert "Signs of gradient masking" not in [table.title for table in robustness().tables()]


def test_examples_of_unequal_length_are_refused():
    shown = examples()
    with pytest.raises(ValueError, match="labels"):
        type(shown)(**(vars(shown) | {"labels": shown.labels[:2]}))


def test_the_summary_says_how_near_mistakes_lie_where_that_was_asked(robustness):
    nearest = [
        dataclasses.replace(attack("ddn", [0, 0]), norm="L2", minimal_norm=True, median_distance=1.2345),
        dataclasses.replace(attack("fab", [0, 0]), norm="Linf", minimal_norm=True, median_distance=0.05),
        dataclasses.replace(attack("cw", [60, 40]), norm="L2", minimal_norm=True, median_distance=None),
    ]
    said = robustness(attacks=nearest, worst_case_correct=90, worst_case_per_class=[55, 35]).summary()
    assert said.endswith(
        "correctly. Half of the images that it gets right have a mistake within L2 1.23 (ddn) and Linf 0.05 (fab)."
    )


def test_of_attacks_that_leave_as_much_the_summary_calls_none_the_strongest(robustness):
    summary = robustness(attacks=[attack(name, [30, 20]) for name in ("pgd", "apgd", "fab")]).summary()
    assert "50.0% stay correct under pgd, apgd and fab alike" in summary
    assert "strongest" not in summary


def test_the_table_of_a_curve_says_how_many_images_are_behind_each_point(robustness):
    result = robustness(curves={"pgd": [(0.1, 0.7)]}, curve_samples={"pgd": 10})
    table = next(table for table in result.tables() if table.title == "Accuracy over eps")
    assert table.rows == [["pgd", "Linf", 0.1, 10, 0.7, "39.7\N{EN DASH}89.2%"]]


def test_the_scope_is_images_and_budgets(robustness):
    attacks = [attack("fgsm", [35, 25], eps=8 / 255), attack("pgd", [30, 20], eps=8 / 255)]
    assert robustness(attacks=attacks).scope() == "100 validation images, attacks within Linf 8/255"
