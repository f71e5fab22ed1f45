from dataclasses import replace

import pytest

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.callbacks.masking import masking_warnings
from lightning_adv.reports.robustness import AttackRow

ROW = AttackRow(
    name="pgd",
    description="PGD",
    norm="Linf",
    eps=0.03,
    samples=100,
    robust_correct=40,
    success_rate=0.5,
    mean_linf=0.03,
    mean_l2=1.0,
    mean_l1=9.0,
    clean_confidence=0.9,
    adversarial_confidence=0.6,
    per_class_correct=[20, 20],
    zero_gradient_share=0.0,
    restart_gain=0.01,
)
ATTACKS = {"pgd": PGD(eps=0.03, steps=20), "fgsm": FGSM(eps=0.03)}


def rows(**changes):
    return [replace(ROW, **changes), replace(ROW, name="fgsm", robust_correct=60, restart_gain=None)]


def test_a_healthy_evaluation_gives_no_warning():
    curves = {"pgd": [(0.0, 0.9), (0.03, 0.4), (0.5, 0.0)]}
    assert masking_warnings(ATTACKS, rows(), curves) == []


@pytest.mark.parametrize(
    ("changes", "curves", "words"),
    [
        ({"zero_gradient_share": 0.2}, {}, "pgd: the input gradient was exactly zero for 20% of the images"),
        ({"restart_gain": 0.1}, {}, "restarts after the first took another 10.0%"),
        ({"robust_correct": 70}, {}, "fgsm with 1 step(s) leaves 10.0% less accuracy than pgd with 20"),
        ({}, {"pgd": [(0.03, 0.4), (0.5, 0.3)]}, "pgd: 30.0% of the images stay correct at eps 0.5"),
    ],
)
def test_each_sign_of_masked_gradients_is_named(changes, curves, words):
    (warning,) = masking_warnings(ATTACKS, rows(**changes), curves)
    assert words in warning


def test_attacks_of_two_norms_are_not_compared():
    attacks = {"pgd": PGD(eps=0.03, steps=20), "fgsm": FGSM(eps=0.03, norm="L2")}
    assert masking_warnings(attacks, rows(robust_correct=70), {}) == []
