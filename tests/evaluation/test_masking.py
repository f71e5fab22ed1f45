from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from lightning_adv.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIFGSM,
    NIFGSM,
    PGD,
    CarliniWagner,
    DeepFool,
    HyperplaneAttack,
    LeastLikely,
    Square,
    Targeted,
    WorstOf,
)
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.evaluation.masking import masking_warnings
from lightning_adv.results.robustness import AttackRow
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, PlainModule, images, trainer

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


def every_kind_of_attack(norm, eps):
    """Strong and weak, of few steps and short ones, through wrappers, with restarts: none says anything of a model."""
    attacks = {
        "fgsm": FGSM(eps=eps, norm=norm),
        "one_step": PGD(eps=eps, steps=1, norm=norm),
        "two_steps": PGD(eps=eps, steps=2, norm=norm),
        "restarts": PGD(eps=eps, steps=5, norm=norm, restarts=3),
        "short_steps": PGD(eps=eps, steps=10, step_size=eps / 40, norm=norm, restarts=3),
        "short_from_the_image": BIM(eps=eps, steps=10, step_size=eps / 40, norm=norm),
        "momentum": MIFGSM(eps=eps, steps=5, norm=norm),
        "nesterov": NIFGSM(eps=eps, steps=5, norm=norm),
        "apgd": APGD(eps=eps, steps=20, norm=norm),
        "apgd_short": APGD(eps=eps, steps=3, norm=norm, restarts=2),
        "dlr": APGD(eps=eps, steps=20, loss="dlr", norm=norm),
        "targets": APGD(eps=eps, steps=5, loss="dlr", norm=norm, targets=1),
        "square": Square(eps=eps, queries=10, norm=norm, restarts=4),
        "fab": FAB(eps=eps, steps=2, norm=norm, restarts=3),
        "least_likely": LeastLikely(eps=eps, steps=6, norm=norm),
        "next": Targeted(PGD(eps=eps, steps=5, norm=norm), "next"),
        "ensemble": WorstOf([FGSM(eps=eps, norm=norm), FAB(eps=eps, steps=3, norm=norm)]),
        "hyperplane": HyperplaneAttack(eps=eps),
    }
    if norm != "L1":
        attacks["deepfool"] = DeepFool(eps=eps, norm=norm, steps=50)
        attacks["carlini_wagner"] = CarliniWagner(eps=eps, norm=norm, steps=10, binary_search_steps=1)
    return attacks


class Linear(PlainModule):
    """The same classes told by one layer: no gradient is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE**2, CLASSES))


def learnt_linear() -> Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, (x, y) = Linear(), images(128, seed=1).tensors
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def warned_of(model, attacks, **options):
    evaluation = AttackEvaluation(attacks, **options)
    trainer(evaluation).validate(model, DataLoader(images(40), batch_size=40), verbose=False)
    assert any(0.1 < row.robust_accuracy < 0.9 for row in evaluation.result.attacks)
    return evaluation.result.warnings


@pytest.mark.parametrize(("norm", "eps", "sweep"), [("Linf", 0.08, [0.6]), ("L2", 0.6, []), ("L1", 5.0, [])])
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_no_combination_of_attacks_on_a_sound_model_gives_a_warning(model, kind, norm, eps, sweep):
    sound = learnt_linear() if kind == "linear" else model
    assert warned_of(sound, every_kind_of_attack(norm, eps), eps_sweep=sweep) == []


class Saturated(nn.Module):
    """So sure of everything that the loss is flat."""

    def forward(self, logits):
        return 1e4 * logits


def test_a_saturated_model_gives_a_warning(model):
    model.net.append(Saturated())
    attacks = {"bim": BIM(eps=0.08, steps=5), "fab": FAB(eps=0.08, steps=5)}
    (warning,) = warned_of(model, attacks)
    assert "bim: the input gradient was exactly zero" in warning


def test_where_one_step_gets_further_than_many_there_is_a_warning():
    rows_of = {"fgsm": 40, "pgd": 60, "short": 90, "deepfool": 90}
    attacks = {
        "fgsm": FGSM(eps=0.03),
        "pgd": PGD(eps=0.03, steps=20),
        "short": PGD(eps=0.03, step_size=0.001, steps=20),
        "deepfool": DeepFool(eps=0.03, norm="Linf"),
    }
    made = [
        replace(ROW, name=name, robust_correct=correct, per_class_correct=[correct, 0])
        for name, correct in rows_of.items()
    ]
    (warning,) = masking_warnings(attacks, made, {})
    assert "fgsm with 1 step(s) leaves 20.0% less accuracy than pgd with 20" in warning
