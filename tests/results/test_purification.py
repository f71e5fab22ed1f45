import numpy as np
import pytest

from lightning_adv.results.purification import PurificationResult, PurificationRow
from lightning_adv.results.purification_figures import confusions


def row(purifier, attack, threat, correct, samples=100):
    table = [[correct, samples - correct], [0, 0]]
    return PurificationRow(purifier, attack, threat, samples, [correct, correct], correct, correct, correct, table)


def result(*rows):
    undefended = [row("none", "none", "none", 99), row("none", "pgd", "none", 5)]
    return PurificationResult(title="Purification", rows=[*undefended, row("jpeg", "none", "none", 98), *rows])


def test_a_gain_that_an_informed_attack_takes_back_is_warned_of():
    found = result(row("jpeg", "pgd", "blind", 90), row("jpeg", "pgd", "bpda", 6))
    assert found.warnings == [
        "jpeg looks good under pgd only to an attacker who does not know it: 90.0% blind, 6.0% bpda."
    ]


def test_a_gain_that_no_informed_attack_was_tried_on_is_warned_of():
    (warning,) = result(row("jpeg", "pgd", "blind", 90)).warnings
    assert "by blind attackers alone" in warning


@pytest.mark.parametrize(("blind", "bpda"), [(90, 80), (9, 0)])
def test_a_gain_that_stays_and_no_gain_at_all_need_no_warning(blind, bpda):
    assert not result(row("jpeg", "pgd", "blind", blind), row("jpeg", "pgd", "bpda", bpda)).warnings


def test_the_headline_is_the_least_accuracy_and_needs_an_informed_attack():
    assert "jpeg/informed_accuracy" not in result(row("jpeg", "pgd", "blind", 1)).scalars()
    blind_is_stronger = result(row("jpeg", "pgd", "blind", 1), row("jpeg", "pgd", "bpda", 2))
    assert blind_is_stronger.scalars()["jpeg/informed_accuracy"] == 0.01
    rows = [row("jpeg", "pgd", threat, n) for threat, n in (("blind", 60), ("bpda", 40), ("adaptive", 20))]
    found = result(*rows)
    assert found.scalars()["jpeg/informed_accuracy"] == 0.2
    assert "20.0% (pgd, adaptive)" in found.summary()
    (card,) = [figure for figure in found.key_figures() if figure.card]
    assert card.scalar == "jpeg/informed_accuracy"


def test_threat_models_stand_in_the_order_of_what_they_know():
    found = result(*(row("jpeg", "pgd", threat, 1) for threat in ("black_box", "adaptive", "blind")))
    assert found.tables()[0].columns[2:] == ["blind", "adaptive", "black_box", "Strongest"]


def test_counts_that_contradict_each_other_are_refused():
    wrong = PurificationRow("jpeg", "pgd", "bpda", 10, [3, 4], 3, 3, 5, [[3, 7], [0, 0]])
    with pytest.raises(ValueError, match="contradict"):
        result(wrong)


def test_a_confusion_has_rows_of_classes_with_images_and_one_column_of_all_others():
    counts = np.zeros((1000, 1000), int)
    counts[3, [3, 8, 900]] = 2, 1, 1
    counts[8, 8] = 5
    axes = confusions({"pgd": counts.tolist()}, [f"class {k}" for k in range(1000)]).axes[0]
    assert axes.images[0].get_array().tolist() == [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["class 3", "class 8", "other"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 3", "class 8"]


def test_no_purifier_is_said_to_keep_most_of_equals():
    equals = result(*(row(name, "pgd", "bpda", 40) for name in ("jpeg", "blur")))
    assert "under the strongest attack that knows them, jpeg and blur keep as much, 40.0%" in equals.summary()
