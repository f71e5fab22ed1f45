"""How much the nMutant experiment measures."""

from dataclasses import replace

from experiments.nmutant.plan import OPERATORS, OWN, PAPERS, PLANS, quick
from lightning_adv.detectors import PaperMutation


def test_quick_asks_for_less_and_the_page_says_how_much():
    for name, plan in PLANS.items():
        assert quick(plan).seeds == 1
        assert quick(plan).longest <= plan.longest
        assert quick(plan).judged < plan.judged
        assert f"{plan.judged:,}" in plan.text(name, 0.98)


def test_fewer_images_are_judged_and_calibrated_with_in_proportion():
    plan = replace(PLANS["MNIST"], count=100).in_proportion()
    assert (plan.judged, plan.calibration[0]) == (50, 100)
    assert PLANS["MNIST"].in_proportion() == PLANS["MNIST"]


def test_the_papers_detector_is_the_authors_operator_which_cuts_nothing_off():
    assert isinstance(OPERATORS[PAPERS], PaperMutation)
    assert not OPERATORS[PAPERS].clip
    assert OWN in OPERATORS
