import pytest

from lightning_adv.results.calibration import CalibrationResult, CalibrationRow
from lightning_adv.results.figures import png

CLEAN = CalibrationRow("clean", "no attack", [0, 4, 6], [0, 3, 6], [0.0, 2.2, 5.4])
PGD = CalibrationRow("pgd", "PGD(eps=0.1)", [0, 0, 10], [0, 0, 0], [0.0, 0.0, 9.5])
NOTHING = CalibrationRow("nan", "PGD(eps=9)", [0, 0, 0], [0, 0, 0], [0.0, 0.0, 0.0])


def result(*rows: CalibrationRow) -> CalibrationResult:
    return CalibrationResult(title="Calibration", rows=list(rows))


def test_errors_are_gaps_weighted_by_images():
    assert CLEAN.gaps == pytest.approx([0.2, 0.1])
    assert CLEAN.scalars() == pytest.approx({"ece": 0.14, "mce": 0.2, "overconfidence": -0.14})
    assert PGD.scalars() == pytest.approx({"ece": 0.95, "mce": 0.95, "overconfidence": 0.95})


def test_a_kind_without_an_image_has_no_figures_and_no_panel():
    whole = result(CLEAN, PGD, NOTHING)
    assert not any(key.startswith("nan/") for key in whole.scalars())
    assert [row[0] for row in whole.tables()[0].rows] == ["clean", "pgd"]
    assert len([axes for axes in whole.pictures()[0].draw().axes if axes.get_title()]) == 2


def test_nothing_at_all_is_drawn_too():
    whole = result(CalibrationRow("clean", "no attack", [0], [0], [0.0]))
    assert whole.scalars() == {}
    assert whole.summary() == ""
    assert png(whole.pictures()[0].draw()).startswith(b"\x89PNG")


def test_the_summary_names_the_worst():
    assert result(CLEAN, PGD).summary().endswith("14.0% away from its accuracy on clean images, and 95.0% under pgd.")
    assert result(CLEAN).summary().endswith("on clean images.")


def test_key_figures_are_scalars_and_say_what_they_were_measured_with():
    whole = result(CLEAN, PGD)
    assert {figure.scalar: figure.basis for figure in whole.key_figures()} == {
        "clean/ece": "no attack",
        "pgd/ece": "PGD(eps=0.1)",
    }
    assert {figure.scalar for figure in whole.key_figures()} <= whole.scalars().keys()


@pytest.mark.parametrize("rows", [[], [PGD], [CalibrationRow("clean", "", [1], [2], [0.5])]])
def test_contradictions_are_refused(rows):
    with pytest.raises(ValueError, match=r"come first|more correct"):
        result(*rows)
