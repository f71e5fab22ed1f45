"""Outcomes exclude each other, follow their definitions, and destruction is Kurakin's quotient."""

import pytest
import torch

from lightning_adv.metrics.outcomes import Destruction, destruction, outcomes, similar_classes, top_k_errors


def ranked(*rows: tuple[int, ...]) -> torch.Tensor:
    """Logits whose classes stand in the order of each row, the likeliest first."""
    logits = torch.zeros(len(rows), len(rows[0]))
    for i, row in enumerate(rows):
        logits[i, list(row)] = torch.arange(len(row), 0, -1).float()
    return logits


CLEAN = ranked((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (1, 0, 2, 3), (1, 0, 2, 3))
AFTER = ranked((0, 1, 2, 3), (1, 0, 2, 3), (3, 0, 1, 2), (2, 3, 1, 0), (0, 1, 2, 3), (2, 0, 1, 3))
LABEL = torch.zeros(6, dtype=torch.int64)


def test_each_kind_is_told_by_its_definition():
    similar = torch.zeros(4, 4, dtype=torch.bool)
    similar[0, 3] = True
    found = outcomes(CLEAN, AFTER, LABEL, similar, top=2)
    kinds = (found.robust, found.refocused, found.conatural, found.true, found.benign, found.wrong)
    assert kinds == (1, 1, 1, 1, 1, 1)
    assert found.adversarial == 3
    assert sum(kinds) == found.samples == 6


def test_without_similarity_nothing_is_conatural_and_a_wider_sight_refocuses_more():
    narrow, wide = (outcomes(CLEAN, AFTER, LABEL, top=top) for top in (1, 4))
    assert (narrow.conatural, narrow.refocused, narrow.true) == (0, 0, 3)
    assert (wide.conatural, wide.refocused, wide.true) == (0, 3, 0)


def test_classes_that_are_confused_often_enough_are_similar_both_ways():
    label = torch.tensor([0] * 100 + [1] * 100)
    said = torch.tensor([0] * 98 + [1] * 2 + [1] * 100)
    logits = torch.nn.functional.one_hot(said, 3).float()
    assert similar_classes(logits, label, share=0.02).tolist() == [
        [False, True, False],
        [True, False, False],
        [False] * 3,
    ]
    assert not similar_classes(logits, label, share=0.03).any()


def test_the_destruction_rate_counts_only_images_that_were_fooled():
    photo = ranked((0, 1, 2, 3), (0, 1, 2, 3), (3, 0, 1, 2), (0, 2, 3, 1), (0, 1, 2, 3), (0, 2, 1, 3))
    assert destruction(CLEAN, AFTER, photo, LABEL) == Destruction(fooled=3, destroyed=2)
    assert destruction(CLEAN, AFTER, photo, LABEL, top=2) == Destruction(fooled=1, destroyed=1)
    assert destruction(CLEAN, CLEAN, photo, LABEL).rate is None


def test_top_k_errors_agree_with_topk():
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    label = torch.arange(50) % 8
    for k in (1, 3, 5):
        inside = (logits.topk(k, dim=1).indices == label[:, None]).any(dim=1)
        assert top_k_errors(logits, label, k) == int((~inside).sum())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="logits of one shape"):
        outcomes(CLEAN, AFTER[:3], LABEL)
    with pytest.raises(ValueError, match=r"similar must be \[4, 4\]"):
        outcomes(CLEAN, AFTER, LABEL, similar=torch.zeros(3, 3, dtype=torch.bool))
