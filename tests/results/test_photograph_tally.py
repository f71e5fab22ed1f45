"""The rows say what argmax and topk say, and add up over shards."""

import torch

from lightning_adv.metrics import outcomes, outcomes_of_predictions
from lightning_adv.results.physical import PhotographTally


def logits(seed: int, count: int = 60, classes: int = 12) -> torch.Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


LABEL = torch.arange(60) % 12
CLEAN, ATTACKED, PHOTO = (logits(seed) for seed in range(3))
CLEAN[torch.arange(60), LABEL] += 2  # mostly right


def tallied(*parts: slice) -> torch.Tensor:
    tally = PhotographTally()
    for part in parts:
        tally.update(LABEL[part], CLEAN[part], ATTACKED[part], PHOTO[part])
    return tally.compute()


def test_a_row_holds_predictions_and_what_is_in_sight():
    rows = tallied(slice(None))
    label, *said = rows[:, :4].T
    assert torch.equal(label, LABEL)
    for found, each in zip(said, (CLEAN, ATTACKED, PHOTO), strict=True):
        assert torch.equal(found, each.argmax(dim=1))
    for column, each in ((5, ATTACKED), (6, PHOTO)):
        assert torch.equal(rows[:, column].bool(), (each.topk(5).indices == LABEL[:, None]).any(dim=1))


def test_outcomes_of_the_rows_are_those_of_the_logits():
    label, clean, attacked, _, in_sight, *_ = tallied(slice(0, 7), slice(7, None)).T
    similar = torch.rand(12, 12, generator=torch.Generator().manual_seed(3)) < 0.2
    found = outcomes_of_predictions(clean, attacked, label, in_sight.bool(), similar)
    assert found == outcomes(CLEAN, ATTACKED, LABEL, similar)
    assert found.refocused
    assert found.conatural


def test_a_rank_without_images_has_a_table_to_gather():
    assert tallied().shape == (0, 7)
