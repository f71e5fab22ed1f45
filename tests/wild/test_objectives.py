"""Every objective on every kind of model: the right loss, or one clear sentence."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

import lightning_adv.objectives as objectives
from lightning_adv.asking import NO_CLASS, predicted
from lightning_adv.attacks import FGSM, PGD, WorstOf
from lightning_adv.errors import InputError
from lightning_adv.objectives import (
    ABL,
    AWP,
    EAT,
    HAT,
    IKL,
    LSE,
    MART,
    NFGSM,
    TRADES,
    AdversarialTraining,
    CrossEntropy,
    FastAdversarialTraining,
    FreeAdversarialTraining,
    GradAlign,
    GradientAscent,
    InputAware,
    Objective,
)
from tests.wild.models import (
    CLASSES,
    REFUSED,
    InPlace,
    Probabilities,
    SometimesNaN,
    Wrapped,
    breaks,
    half,
    images,
    labels,
    sure,
)

X = images()
Y = labels(X)
ATTACK = PGD(0.1, steps=2)
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "ABL": ABL,
    "CrossEntropy": CrossEntropy,
    "GradientAscent": GradientAscent,
    "AdversarialTraining": lambda: AdversarialTraining(ATTACK),
    "AdversarialTraining-mixed": lambda: AdversarialTraining(FGSM(0.1), clean_weight=0.5, attack_mode="train"),
    "AWP": lambda: AWP(TRADES(ATTACK)),
    "EAT": lambda: EAT(WorstOf([ATTACK])),
    "FastAdversarialTraining": lambda: FastAdversarialTraining(0.1),
    "FreeAdversarialTraining": lambda: FreeAdversarialTraining(0.1, replays=1),
    "GradAlign": lambda: GradAlign(0.1),
    "HAT": lambda: HAT(Wrapped(), ATTACK),
    "IKL": lambda: IKL(ATTACK),
    "InputAware": lambda: InputAware(0, width=4, halvings=1),
    "LSE": lambda: LSE(ATTACK),
    "MART": lambda: MART(ATTACK),
    "NFGSM": lambda: NFGSM(0.1),
    "TRADES": lambda: TRADES(ATTACK),
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def loss_of(name: str, model: nn.Module, y: torch.Tensor = Y) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)  # starts of attacks and dropout
    loss, logits = OBJECTIVES[name]()(model.train(), X, y)
    return loss.detach(), logits


def test_every_objective_is_asked():
    public = {each for each in vars(objectives).values() if inspect.isclass(each) and not inspect.isabstract(each)}
    assert {each.__name__ for each in public} <= {name.split("-")[0] for name in OBJECTIVES}


@every_objective
def test_a_model_that_works_in_place_learns_as_any_other(name):
    before = X.clone()
    (expected, _), (found, _) = loss_of(name, Wrapped()), loss_of(name, InPlace())
    assert torch.equal(X, before)
    assert not X.requires_grad
    torch.testing.assert_close(found, expected)


@every_objective
def test_a_model_of_half_precision_has_the_loss_of_one_of_float32(name):
    (expected, _), (found, logits) = loss_of(name, Wrapped()), loss_of(name, half(Wrapped()))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.01)


WITHOUT_ATTACK = {"ABL", "CrossEntropy", "FreeAdversarialTraining", "GradientAscent", "InputAware"}
"""Objectives that craft no images, or by the backward of the step before."""


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - WITHOUT_ATTACK))
def test_attacks_move_the_images_of_a_sure_model_of_half_precision(name):
    model = sure()
    y = model(X).argmax(dim=1)
    moved = [OBJECTIVES[name]().craft(each, X, y) for each in (model, half(model))]
    for x_adv in moved:
        assert ((x_adv - X).abs().flatten(1).mean(dim=1) > 0.02).all()


@every_objective
def test_an_answer_of_nan_is_no_answer(name):
    logits = loss_of(name, SometimesNaN())[1]
    assert breaks(X).any()
    assert (predicted(logits)[breaks(X)] == NO_CLASS).all()


@every_objective
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)
def test_a_model_without_logits_is_told_so(name, model):
    with pytest.raises(InputError, match=REFUSED[model]):
        loss_of(name, model())


@every_objective
@pytest.mark.parametrize("wrong", [-100, CLASSES])
def test_a_label_that_the_model_has_no_logit_for_is_named(name, wrong):
    y = Y.clone()
    y[3] = wrong
    with pytest.raises(InputError, match=rf"label {wrong} is outside \[0, {CLASSES}\)"):
        loss_of(name, Wrapped(), y)


@every_objective
def test_probabilities_are_said(name):
    with pytest.warns(UserWarning, match="look like probabilities"):
        loss_of(name, Probabilities())
