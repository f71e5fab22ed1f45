"""Passes are counted, and works that are compared have their turn in every round."""

import torch
from torch import nn

from experiments.cost import Counted, in_turn, quickest, ratio, seconds
from lightning_adv.attacks import PGD


def test_images_are_counted_forwards_and_backwards():
    counted = Counted(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    PGD(0.1, steps=3)(counted, torch.rand(5, 1, 2, 2), torch.arange(5) % 3)
    assert (counted.forwards, counted.backwards) == (15, 15)
    with torch.no_grad():
        counted(torch.rand(2, 1, 2, 2))
    assert (counted.forwards, counted.backwards) == (17, 15)


def test_every_work_has_its_turn_in_every_round_and_a_warm_up_does_not_count():
    order = []

    def work(name, times):
        taken = iter(times)

        def run():
            order.append(name)
            return next(taken)

        return run

    taken = in_turn({"ours": work("ours", [9, 1, 2]), "theirs": work("theirs", [9, 4, 4])}, rounds=2, warm_up=1)
    assert order == ["ours", "theirs"] * 3
    assert taken == {"ours": [1, 2], "theirs": [4, 4]}
    assert ratio(taken["theirs"], taken["ours"]) == 3  # of 4 and 2


def test_seconds_are_those_of_the_clock_and_the_quickest_run_counts():
    ticks = iter([0, 5, 10, 12, 20, 29])
    assert seconds(lambda: None, clock=lambda: next(ticks)) == 5
    assert quickest(lambda: None, 2, clock=lambda: next(ticks)) == 2
