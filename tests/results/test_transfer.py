"""What transferred attacks leave in the report."""

from dataclasses import replace

import pytest

from lightning_adv.results.transfer import TransferredAttack, TransferResult

ROWS = [
    TransferredAttack("lr", "fgsm", samples=100, clean_correct=90, robust_correct=60, deceived=80, transferred=28),
    TransferredAttack("lr", "pgd", samples=100, clean_correct=90, robust_correct=90, deceived=0, transferred=0),
]


def result() -> TransferResult:
    return TransferResult(title="Transfer", rows=ROWS, descriptions={"fgsm": "FGSM(eps=0.3)", "pgd": "PGD(eps=0.3)"})


def test_scalars_are_shares_of_all_images_and_of_those_that_deceive_the_source():
    assert result().scalars() == {
        "transfer/robust_accuracy": 0.6,
        "transfer/lr/fgsm/robust_accuracy": 0.6,
        "transfer/lr/fgsm/transfer_rate": 0.35,
        "transfer/lr/pgd/robust_accuracy": 0.9,
    }


def test_the_summary_tells_the_strongest_pair():
    assert result().summary() == "fgsm crafted on lr leaves 60.0% of the images correct."


def test_table_and_heat_map_have_every_pair():
    (table,) = result().tables()
    assert [row[0] for row in table.rows] == ["fgsm from lr", "pgd from lr"]
    assert table.rows[1][4] is None
    assert [text.get_text() for text in result().pictures()[0].draw().axes[0].texts] == ["35", "0"]


def test_plain_data_has_counts_shares_and_intervals():
    row = result().as_dict()["rows"][0]
    assert (row["transferred"], row["transfer_rate"], row["robust_accuracy"]) == (28, 0.35, 0.6)
    assert row["interval"][0] < 0.6 < row["interval"][1]


def test_counts_that_contradict_each_other_are_refused():
    odd = TransferredAttack("lr", "fgsm", samples=10, clean_correct=5, robust_correct=6, deceived=0, transferred=0)
    with pytest.raises(ValueError, match="contradict each other"):
        TransferResult(title="Transfer", rows=[odd], descriptions={"fgsm": ""})


def test_the_summary_calls_none_of_equals_the_strongest():
    rows = [ROWS[0], replace(ROWS[0], attack="pgd")]
    equals = TransferResult(title="Transfer", rows=rows, descriptions=result().descriptions)
    assert equals.summary() == "fgsm crafted on lr and pgd crafted on lr leave 60.0% of the images correct."
