from itertools import count

import pytest
from pytorch_lightning import Callback

from lightning_adv.callbacks import EpochLine, ResultLines
from lightning_adv.evaluation.progress import track
from tests.callbacks.strangers import trainer


def tracked(callback: Callback, seconds: float) -> list[int]:
    """Ten items, each of which takes so many seconds."""
    return list(track(trainer(callback), range(10), "pgd", clock=count(step=seconds).__next__))


@pytest.mark.parametrize("teller", [EpochLine, ResultLines])
def test_without_a_terminal_a_long_evaluation_says_how_far_it_is(teller, capsys):
    assert tracked(teller(), 20) == list(range(10))
    assert capsys.readouterr().out.splitlines() == [
        "pgd: 2 of 10 batches in 0:00:40, about 0:02:40 left",
        "pgd: 4 of 10 batches in 0:01:20, about 0:02:00 left",
        "pgd: 6 of 10 batches in 0:02:00, about 0:01:20 left",
        "pgd: 8 of 10 batches in 0:02:40, about 0:00:40 left",
    ]


@pytest.mark.parametrize(("callback", "seconds"), [(EpochLine(), 2), (Callback(), 1000)])
def test_a_short_one_and_one_in_a_trainer_of_ones_own_say_nothing(callback, seconds, capsys):
    assert tracked(callback, seconds) == list(range(10))
    assert capsys.readouterr().out == ""
