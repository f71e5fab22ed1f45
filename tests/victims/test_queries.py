"""A query budget is hard, and no answer that was paid for is asked for again."""

import json

import pytest
import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.victims import CountedOracle, QueryBudgetExceeded
from tests.victims.problems import brightness, stripes


class Asked:
    """An oracle that notes how many images it was shown, and may fail from some image on."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.images, self.fails_after = 0, fails_after

    def __call__(self, x: Tensor) -> Tensor:
        if self.fails_after is not None and self.images + len(x) > self.fails_after:
            raise ConnectionError("the service is gone")
        self.images += len(x)
        return brightness(x)


def test_one_query_more_than_the_budget_raises_and_is_not_asked():
    asked, x = Asked(), stripes(8)[0]
    oracle = CountedOracle(asked, budget=5)
    assert torch.equal(oracle(x[:5]), brightness(x[:5]))
    with pytest.raises(QueryBudgetExceeded, match="from 5 to 6 of 5"):
        oracle(x[5:6])
    assert (asked.images, oracle.spent, oracle.left) == (5, 5, 0)


def test_an_image_asked_before_costs_nothing():
    asked, x = Asked(), stripes(4)[0]
    oracle = CountedOracle(asked, budget=4)
    oracle(x)
    assert torch.equal(oracle(torch.cat([x, x.flip(0)])), brightness(torch.cat([x, x.flip(0)])))
    assert asked.images == 4


def test_an_image_twice_in_one_batch_is_asked_once():
    asked, x = Asked(), stripes(3)[0]
    CountedOracle(asked)(torch.cat([x, x]))
    assert asked.images == 3


def test_a_restart_goes_on_with_the_log_and_its_count(tmp_path):
    x = stripes(8)[0]
    CountedOracle(Asked(), budget=8, log=tmp_path / "queries.jsonl")(x[:6])
    asked = Asked()
    again = CountedOracle(asked, budget=8, log=tmp_path / "queries.jsonl")
    assert torch.equal(again(x), brightness(x))
    assert (asked.images, again.spent) == (2, 8)
    with pytest.raises(QueryBudgetExceeded):
        again(1 - x)


def test_an_oracle_that_throws_loses_none_of_the_answers_before(tmp_path):
    x = stripes(10)[0]
    log = tmp_path / "queries.jsonl"
    with pytest.raises(InputError, match="ConnectionError: the service is gone; the 6 answers so far are kept in"):
        CountedOracle(Asked(fails_after=7), log=log, batch_size=2)(x)
    asked = Asked()
    again = CountedOracle(asked, log=log)
    assert torch.equal(again(x), brightness(x))
    assert asked.images == 4
    assert again.spent == 12, "the two that were sent without an answer may have been counted by the service"


@pytest.mark.parametrize(
    "answer",
    [
        torch.zeros(3),
        torch.zeros(2, dtype=torch.int64),
        torch.full((3,), -1),
        torch.full((3, 4), torch.nan),
        torch.zeros(3, 1),
        "three",
    ],
    ids=["floats", "too few", "negative", "nan", "one column", "text"],
)
def test_an_answer_that_is_none_is_refused_and_the_others_stay(answer, tmp_path):
    x, log = stripes(6)[0], tmp_path / "queries.jsonl"
    CountedOracle(brightness, log=log)(x[:3])
    with pytest.raises(InputError, match=r"the oracle must answer 3 images .* the 3 answers so far are kept"):
        CountedOracle(lambda _: answer, log=log)(x)
    asked = Asked()
    CountedOracle(asked, log=log)(x)
    assert asked.images == 3


def test_scores_come_back_from_the_log_as_they_were(tmp_path):
    x, log = stripes(5)[0], tmp_path / "queries.jsonl"
    scores = CountedOracle(lambda x: x.flatten(1)[:, :4], log=log)(x)
    assert torch.equal(CountedOracle(Asked(), log=log)(x), scores)


def test_an_oracle_may_not_change_its_kind_of_answer():
    oracle = CountedOracle(lambda x: brightness(x) if len(x) > 1 else x.flatten(1))
    oracle(stripes(4)[0])
    with pytest.raises(InputError, match="the same kind every time"):
        oracle(1 - stripes(1)[0])


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    x, log = stripes(4)[0], tmp_path / "queries.jsonl"
    CountedOracle(brightness, log=log, batch_size=2)(x)
    whole = log.read_text()
    log.write_text(whole[: whole.rindex('"answers"')])
    for expected_spent in (6, 6):  # the second time the stump is in the middle of the file
        asked = Asked()
        oracle = CountedOracle(asked, log=log)
        oracle(x)
        assert oracle.spent == expected_spent
    assert asked.images == 0


def test_a_file_that_is_no_log_is_refused(tmp_path):
    log = tmp_path / "queries.jsonl"
    log.write_text(json.dumps([1, 2]) + "\n")
    with pytest.raises(InputError, match="line 1 of the query log"):
        CountedOracle(brightness, log=log)
