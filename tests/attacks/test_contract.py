"""What every attack says of itself: its budget, its steps, and one description that tells any two settings apart."""

import inspect

import pytest
from torch import nn

import lightning_adv.attacks as attacks
from lightning_adv.attacks import (
    APGD,
    BIM,
    EOT,
    FAB,
    FGSM,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    HyperplaneAttack,
    LeastLikely,
    SearchLow,
    Square,
    SubstituteAttack,
    Targeted,
    WorstOf,
)
from lightning_adv.errors import InputError
from lightning_adv.objectives import AdversarialTraining

from .problems import RECORDS

KINDS = list(dict.fromkeys(type(record.attack) for record in RECORDS.values()))

NEEDED = {
    EOT: {"attack": FGSM()},
    SearchLow: {"attack": FGSM()},
    Targeted: {"attack": FGSM()},
    SubstituteAttack: {"attack": FGSM()},
    WorstOf: {"attacks": [FGSM()]},
}
"""Arguments that have no default."""

OTHER = {
    "attack": PGD(steps=3),
    "attacks": [PGD(steps=3)],
    "eps": 0.123,
    "norm": "L2",
    "start": "gaussian",
    "loss": "dlr",
    "selector": "next",
    "version": "rand",
    "substitute": nn.Linear(4, 3),
    "theta": 0.5,
    "gamma": 0.2,
    "last_gamma": 0.2,
    "pixels": 1,
    "rho": 0.5,
    "p_init": 0.5,
    "alpha_max": 0.2,
    "beta": 0.8,
    "eta": 1.1,
    "margin": 0.1,
    "candidates": 5,
    "period": 2,
    "reservoir": 7,
    "initial_const": 0.5,
    "step_size": 0.0123,
}
"""Another valid value of an argument; numbers and switches that are not named here are changed by one."""


def other(kind: type[Attack], name: str, default: object) -> object:
    if name == "norm" and default == "L2":
        return "Linf"
    if name in OTHER:
        return OTHER[name]
    return not default if isinstance(default, bool) else default + 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_changing_any_argument_changes_the_description(kind):
    given = NEEDED.get(kind, {})
    usual = kind(**given)
    for name, parameter in list(inspect.signature(kind).parameters.items()):
        if name == "seed":
            continue
        changed = kind(**given | {name: other(kind, name, parameter.default)})
        assert repr(changed) != repr(usual), name
        assert "?" not in repr(changed), f"{kind.__name__} does not keep {name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_seed_is_no_part_of_the_description(kind):
    if "seed" not in inspect.signature(kind).parameters:
        return
    given = NEEDED.get(kind, {})
    assert repr(kind(**given, seed=1)) == repr(kind(**given))


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (Square(queries=50), Square(queries=5000)),
        (APGD(loss="ce"), APGD(loss="dlr")),
        (EOT(PGD(), samples=1), EOT(PGD(), samples=200)),
        (WorstOf([FGSM()]), WorstOf([AutoAttack()])),
        (Targeted(FGSM()), Targeted(PGD(steps=500))),
        (FGSM(eps=0.0312), FGSM(eps=0.03124)),
        (SubstituteAttack(FGSM(), nn.Linear(2, 3)), SubstituteAttack(FGSM(), nn.Linear(2, 4))),
    ],
)
def test_different_attacks_have_different_descriptions(one, another):
    assert repr(one) != repr(another)


def test_a_length_in_grey_levels_is_written_as_one():
    assert "eps=8/255, step_size=2/255" in repr(PGD(eps="8/255"))


@pytest.mark.parametrize("wrap", [EOT, Targeted, SubstituteAttack], ids=lambda kind: kind.__name__)
def test_a_wrapper_says_what_the_attack_in_it_says(wrap):
    inner = PGD(eps=0.5, norm="L2", steps=7, step_size=0.1)
    for attack, of in ((wrap(inner), inner), (wrap(inner).scaled(0.5), inner.scaled(0.5))):
        said = (attack.eps, attack.norm, attack.steps, attack.step_size, attack.has_budget)
        assert said == (of.eps, of.norm, of.steps, of.step_size, True)
    free = wrap(DeepFool())
    assert (free.eps, free.has_budget) == (None, False)


def test_an_ensemble_has_the_budget_that_all_its_attacks_share():
    assert (WorstOf([FGSM(eps=0.1), PGD(eps=0.1)]).eps, AutoAttack(eps=0.2).norm) == (0.1, "Linf")
    mixed = WorstOf([FGSM(eps=0.1), PGD(eps=1.0, norm="L2")])
    assert (mixed.eps, mixed.norm, mixed.has_budget) == (None, None, True)
    assert [each.eps for each in mixed.scaled(0.5).attacks.values()] == [0.05, 0.5]


def test_attacks_without_a_budget_say_so_and_cannot_be_scaled():
    for attack in (CarliniWagner(), DeepFool(), FAB(), attacks.JSMA()):
        assert (attack.eps, attack.has_budget) == (None, False)
        with pytest.raises(InputError, match="has no eps"):
            attack.scaled(0.5)
    assert (HyperplaneAttack(eps=1.0).norm, Square(eps=0.1).steps, LeastLikely().steps) == ("L2", None, 10)
    assert BIM(eps=0.1, steps=5).scaled(2).step_size == pytest.approx(0.1)


@pytest.mark.parametrize("attack", [DeepFool(), EOT(DeepFool()), Targeted(CarliniWagner()), attacks.JSMA()])
def test_warm_up_of_an_attack_without_a_budget_is_refused_at_construction(attack):
    with pytest.raises(InputError, match="has no eps"):
        AdversarialTraining(attack, warmup_epochs=2)
