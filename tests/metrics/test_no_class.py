"""An image whose logits are NaN is counted as wrong by every tally, and its class is nobody's."""

import torch

from lightning_adv.metrics import class_ranks, outcomes, similar_classes, top_k_errors
from lightning_adv.results.physical import PhotographTally
from lightning_adv.results.purification_tally import DrawsTally
from lightning_adv.results.robustness_tally import CleanTally

LABEL = torch.tensor([0, 0, 2])
LOGITS = torch.tensor([[3.0, 1, 2], [torch.nan, 1, 2], [torch.nan, torch.nan, torch.nan]])


def test_a_clean_tally_counts_it_wrong_and_without_confidence():
    tally = CleanTally(3)
    tally.update(LOGITS, LABEL, torch.tensor([True, False, False]))
    counts, confidence = tally.compute()
    assert counts.tolist() == [[2, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert confidence.isnan().tolist() == [False, True, True]


def test_a_draws_tally_gives_it_neither_a_vote_nor_a_place_in_the_confusion():
    tally = DrawsTally(3, draws=2)
    right = torch.tensor([[3.0, 1, 2], [3.0, 1, 2], [1.0, 2, 3]])
    tally.update(LABEL, torch.stack([LOGITS, right]))
    found = tally.compute()
    assert found["correct"].tolist() == [1, 3]
    assert {name: int(found[name]) for name in ("mean", "vote", "worst", "no_class", "samples")} == {
        "mean": 1, "vote": 3, "worst": 1, "no_class": 2, "samples": 3,
    }  # fmt: skip
    assert found["confusion"].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_draws_tally_has_no_vote_where_all_draws_are_nan():
    tally = DrawsTally(3, draws=2)
    tally.update(torch.zeros(3, dtype=torch.long), LOGITS[2:].expand(2, 3, 3))
    assert [int(tally.compute()[name]) for name in ("vote", "mean", "no_class")] == [0, 0, 3]


def test_no_class_is_in_sight_where_logits_are_nan():
    assert class_ranks(LOGITS[:1], torch.tensor([-1])).item() > 1000
    assert (class_ranks(LOGITS[1:], torch.tensor([2, 1])) > 1000).all()
    assert top_k_errors(LOGITS, LABEL, k=3) == 2


def test_an_outcome_of_nan_is_wrong_and_related_to_nothing():
    clean = torch.tensor([[3.0, 1, 2], [3.0, 1, 2], [1.0, 2, 3]])
    every_class_is_similar = torch.ones(3, 3, dtype=torch.bool)
    found = outcomes(clean, LOGITS, LABEL, every_class_is_similar)
    assert (found.robust, found.true, found.conatural, found.refocused) == (1, 2, 0, 0)
    back = outcomes(LOGITS, clean, LABEL)
    assert (back.robust, back.benign, back.wrong) == (1, 2, 0)


def test_classes_are_not_similar_because_one_is_nan():
    assert not similar_classes(LOGITS, LABEL).any()


def test_a_photograph_tally_says_minus_one_and_counts_it_out_of_the_top_five():
    tally = PhotographTally()
    tally.update(LABEL, LOGITS, LOGITS, LOGITS)
    assert tally.compute().tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, -1, -1, -1, 0, 0, 0], [2, -1, -1, -1, 0, 0, 0]]
