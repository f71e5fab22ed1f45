"""What photographs of attacked images leave in the report."""

from dataclasses import replace

import pytest

from lightning_adv.metrics import Destruction, Outcomes
from lightning_adv.results.physical import PhotographedAttack, PhysicalResult

OUTCOMES = Outcomes(samples=100, robust=30, true=20, refocused=30, conatural=10, benign=2, wrong=8)
FGSM = PhotographedAttack("fgsm", 8 / 255, False, Destruction(60, 15), OUTCOMES, (80, 85), photographed_correct=50)
EOT = replace(FGSM, attack="eot", aware=True, destruction=Destruction(60, 6), photographed_correct=40)
NOTHING = replace(FGSM, eps=2 / 255, destruction=Destruction(0, 0), outcomes=replace(OUTCOMES, robust=90, true=0))


def result(*rows: PhotographedAttack, photographed_correct: int = 85) -> PhysicalResult:
    return PhysicalResult(
        title="Physical world",
        rows=list(rows),
        samples=100,
        clean_correct=90,
        photographed_correct=photographed_correct,
        world="PhysicalWorld()",
        related=[("cat", "dog")],
    )


def test_scalars_are_rates_and_shares_of_all_images():
    assert result(FGSM, EOT).scalars() == {
        "physical/clean_accuracy": 0.9,
        "physical/photograph_accuracy": 0.85,
        "physical/fgsm/photograph_accuracy": 0.5,
        "physical/fgsm/destruction_rate": 0.25,
        "physical/eot/photograph_accuracy": 0.4,
        "physical/eot/destruction_rate": 0.1,
    }


def test_several_budgets_have_keys_of_their_own_and_none_without_success_has_a_rate():
    scalars = result(NOTHING, FGSM).scalars()
    assert "physical/fgsm/eps_8-255/destruction_rate" in scalars
    assert "physical/fgsm/eps_2-255/photograph_accuracy" in scalars
    assert "physical/fgsm/eps_2-255/destruction_rate" not in scalars
    assert [each.scalar for each in result(NOTHING, FGSM).key_figures()] == [
        "physical/fgsm/eps_8-255/photograph_accuracy"
    ]


def test_the_summary_tells_the_attack_that_survives_best():
    assert (
        result(FGSM, EOT)
        .summary()
        .startswith("A camera undoes 10.0% (4.7\N{EN DASH}20.1%) of what eot, eps 8/255 achieved")
    )
    assert "nothing for a camera to undo" in result(NOTHING).summary()


def test_tables_and_pictures_have_every_row():
    shown = result(NOTHING, FGSM, EOT)
    rates, kinds = shown.tables()
    assert [row[0] for row in rates.rows] == ["fgsm, eps 2/255", "fgsm, eps 8/255", "eot, eps 8/255"]
    assert rates.rows[0][1:4] == [None, "\N{EN DASH}", 0]
    assert kinds.rows[1] == ["fgsm, eps 8/255", 20, 30, 10, 2, 30, 8]
    assert "cat and dog" in kinds.note
    for each in (shown, result(FGSM, EOT)):
        (axes,) = each.pictures()[0].draw().axes
        assert len(axes.containers) + len(axes.lines) >= 2


def test_what_misleads_is_said():
    assert not result(FGSM, EOT).warnings
    assert "No attack here knows of the camera" in result(FGSM).warnings[0]
    assert "costs 20.0 points" in result(FGSM, EOT, photographed_correct=70).warnings[0]


def test_plain_data_has_counts_and_shares():
    row = result(FGSM).as_dict()["rows"][0]
    assert (row["destruction"]["destroyed"], row["destruction_rate"], row["outcomes"]["true"]) == (15, 0.25, 20)
    assert row["interval"][0] < 0.25 < row["interval"][1]


def test_rows_of_other_images_are_refused():
    with pytest.raises(ValueError, match="every row needs 100 images"):
        result(replace(FGSM, outcomes=replace(OUTCOMES, samples=50)))
    with pytest.raises(ValueError, match="there must be one"):
        result()


def test_no_attack_is_called_the_one_that_survives_best_of_equals():
    summary = result(FGSM, replace(EOT, destruction=FGSM.destruction)).summary()
    assert summary == "A camera undoes 25.0% of what fgsm, eps 8/255 and eot, eps 8/255 achieved each."
