"""A detection result becomes rows, sentences and pictures, and refuses counts that contradict each other."""

import json
from dataclasses import replace

import pytest

from lightning_adv.results.detection import DetectionResult, DetectionRow, TransferRow
from lightning_adv.results.figures import png

ROW = DetectionRow("lcr", "fgsm", 100, 50, 10, 40, 0.9, (0.85, 0.95), 0.01, 0.4, mutations=30.5, undecided=2)


def result(**changes: object) -> DetectionResult:
    rows = [ROW, replace(ROW, attack="cw", auroc=0.8), replace(ROW, detector="kd", auroc=0.7, mutations=None)]
    fields = {
        "title": "Detection",
        "rows": rows,
        "transfer": [TransferRow("lcr", "fgsm", {"fgsm": 0.9, "cw": 0.8}, {"fgsm": 0.85, "cw": 0.7})],
        "curves": {a: {"lcr": [(0.0, 0.0), (0.1, 0.8), (1.0, 1.0)]} for a in ("fgsm", "cw", "jsma", "bb")},
        "scores": {"lcr": {"normal": [0.0, 0.1], "fgsm": [0.4, 0.9]}, "kd": {"normal": [1.0], "fgsm": [1.0]}},
    }
    return DetectionResult(**(fields | changes))


def test_shares_follow_from_counts():
    assert ROW.recall == pytest.approx(0.8)
    assert ROW.precision == pytest.approx(0.8)
    assert ROW.false_positive_rate == pytest.approx(0.1)
    assert ROW.accuracy == pytest.approx(0.85)
    assert replace(ROW, true_positives=0, false_positives=0).precision is None


def test_scalars_name_detector_and_attack():
    scalars = result().scalars()
    assert scalars["lcr/mean_auroc"] == pytest.approx(0.85)
    assert scalars["lcr/fgsm/mutations"] == 30.5
    assert "kd/fgsm/mutations" not in scalars


def test_the_best_detector_is_named_and_stands_on_the_card():
    assert "lcr has the highest mean AUROC, 0.850" in result().summary()
    assert [figure.scalar for figure in result().key_figures() if figure.card] == ["lcr/mean_auroc"]


def test_a_key_figure_says_with_which_settings_and_against_which_attacks_it_was_measured():
    settings = {"descriptions": {"lcr": "LCR(mu=2)"}, "attack_descriptions": {"fgsm": "FGSM(eps=0.1)"}}
    first, second = result(**settings).key_figures()
    assert first.basis == "LCR(mu=2); against fgsm: FGSM(eps=0.1), cw"
    assert second.basis == "kd; against fgsm: FGSM(eps=0.1)"


def test_tables_have_a_cell_for_every_pair_and_none_where_nothing_was_measured():
    areas, verdicts, transfer = result().tables()
    assert areas.rows[0] == ["fgsm", "0.900 (0.850 to 0.950)", "0.700 (0.850 to 0.950)"]
    assert areas.rows[1][2] is None
    assert len(verdicts.rows) == 3
    assert transfer.rows == [["fgsm", "0.900 / 85.0%", "0.800 / 70.0%"]]


def test_pictures_are_drawn_with_one_panel_each_and_no_empty_axes():
    roc, scores = (picture.draw() for picture in result().pictures())
    assert [panel.get_title() for panel in roc.axes if panel.axison] == ["fgsm", "cw", "jsma", "bb"]
    assert [panel.get_title() for panel in scores.axes if panel.axison] == ["lcr", "kd"]
    assert png(roc)[:4] == png(scores)[:4] == b"\x89PNG"


def test_the_data_are_plain():
    data = json.loads(json.dumps(result().as_dict()))
    assert data["rows"][0]["accuracy"] == pytest.approx(0.85)
    assert data["score_quantiles"]["lcr"]["fgsm"] == [0.4, 0.4, 0.4, 0.9, 0.9]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no detector"),
        ([replace(ROW, true_positives=51)], "more suspicious samples"),
        ([replace(ROW, normal=0, false_positives=0)], "no sample of one kind"),
    ],
)
def test_what_contradicts_itself_is_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        result(rows=rows)


def test_no_detector_is_called_the_best_of_equals():
    equals = result(rows=[ROW, replace(ROW, detector="kd")])
    assert "lcr and kd have the highest mean AUROC, 0.900" in equals.summary()
