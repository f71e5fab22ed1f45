"""Every attack on every kind of model: the right figure, or one clear sentence."""

import inspect

import pytest
import torch

import lightning_adv.attacks as attacks
from lightning_adv.attacks import (
    APGD,
    BIM,
    DDN,
    EOT,
    FAB,
    FGSM,
    JSMA,
    MIFGSM,
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
from tests.wild.models import (
    CLASSES,
    REFUSED,
    InPlace,
    Probabilities,
    Randomised,
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
EPS = 0.05


def substitute() -> SubstituteAttack:
    attack = SubstituteAttack(FGSM(EPS), Wrapped(), rounds=1, epochs=1, queries=16)
    return attack.fit(Wrapped(), images(seed=1), CLASSES)


def short_autoattack() -> AutoAttack:
    attack = AutoAttack(EPS)
    for each in attack.attacks.values():
        each.steps = 4
        each.queries = 10
    return attack


ATTACKS: dict[str, Attack] = {
    "APGD": APGD(EPS, steps=6),
    "APGD-dlr-targets": APGD(EPS, steps=6, loss="dlr", targets=2),
    "APGD-L1": APGD(2.0, steps=6, norm="L1"),
    "AutoAttack": short_autoattack(),
    "BIM": BIM(EPS, steps=3),
    "CarliniWagner": CarliniWagner(steps=15, binary_search_steps=2, initial_const=1.0, lr=0.05),
    "CarliniWagner-Linf": CarliniWagner(steps=4, norm="Linf", initial_const=10.0, lr=0.2),
    "CarliniWagner-L0": CarliniWagner(steps=4, norm="L0", initial_const=1e5, lr=0.2),
    "DDN": DDN(steps=8),
    "DeepFool": DeepFool(steps=5),
    "SearchLow": SearchLow(PGD(EPS, steps=3)),
    "EOT": EOT(PGD(EPS, steps=3), samples=2),
    "FAB": FAB(steps=5),
    "FAB-targets": FAB(EPS, steps=5, targets=2),
    "FGSM": FGSM(EPS),
    "HyperplaneAttack": HyperplaneAttack(0.5),
    "JSMA": JSMA(gamma=0.2),
    "LeastLikely": LeastLikely(EPS),
    "MIFGSM": MIFGSM(EPS, steps=3),
    "NIFGSM": attacks.NIFGSM(EPS, steps=3),
    "PGD": PGD(EPS, steps=3),
    "PGD-L2": PGD(0.4, steps=3, norm="L2", restarts=2),
    "Square": Square(EPS, queries=20),
    "SubstituteAttack": substitute(),
    "Targeted": Targeted(PGD(EPS, steps=3), "next"),
    "Targeted-all": Targeted(FGSM(EPS), "all"),
    "WorstOf": WorstOf([FGSM(EPS), PGD(0.4, steps=3, norm="L2")]),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)
COARSE = ("PGD", "APGD", "FGSM", "Square")
"""Attacks that are tried on bfloat16, too: it loses no gradient, but minimal perturbations drown in its rounding."""


def test_every_attack_is_asked():
    public = {each for each in vars(attacks).values() if inspect.isclass(each) and issubclass(each, Attack)}
    assert {each.__name__ for each in public} - {"Attack"} <= {name.split("-")[0] for name in ATTACKS}


@every_attack
def test_a_model_that_works_in_place_is_attacked_as_any_other(name):
    x = X.clone()
    expected, found = (ATTACKS[name].run(model, x, Y) for model in (Wrapped(), InPlace()))
    assert torch.equal(x, X)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert torch.equal(found.success, expected.success)
    torch.testing.assert_close(found.images, expected.images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [*((name, torch.float16, 1) for name in ATTACKS), *((name, torch.bfloat16, 2) for name in COARSE)],
)
def test_a_model_of_half_precision_falls_as_one_of_float32_does(name, dtype, tolerance):
    whole, found = (ATTACKS[name].run(model, X, Y) for model in (Wrapped(), half(Wrapped(), dtype)))
    assert found.images.dtype == found.logits.dtype == torch.float32
    assert abs(int(whole.success.sum()) - int(found.success.sum())) <= tolerance
    assert not (found.zero_gradient & ~whole.zero_gradient).any()


def test_a_sure_model_of_half_precision_hides_nothing():
    model = sure()
    y = model(X).argmax(dim=1)
    attack = PGD(0.1, steps=10)
    fooled = int(attack.run(model, X, y).success.sum())
    assert fooled >= 4
    assert abs(int(attack.run(half(model), X, y).success.sum()) - fooled) <= 1


@every_attack
def test_what_breaks_the_model_is_never_right_and_blames_no_gradient(name):
    broken = breaks(X)
    assert 0 < broken.sum() < len(X)
    result = ATTACKS[name].run(SometimesNaN(), X, Y)
    assert 0 <= result.images.min() <= result.images.max() <= 1
    assert result.success[result.logits.isnan().any(dim=1)].all()
    assert result.success[broken].all()
    assert not result.zero_gradient[broken].any()


@every_attack
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)
@pytest.mark.parametrize("entry", ["run", "craft"])
def test_a_model_without_logits_is_told_so(name, model, entry):
    if entry == "craft" and name in ("SubstituteAttack", "AutoAttack"):
        pytest.skip("does not ask the model, or takes no part in training")
    with pytest.raises(InputError, match=REFUSED[model]):
        getattr(ATTACKS[name], entry)(model(), X, Y)


@every_attack
@pytest.mark.parametrize("wrong", [-100, CLASSES])
def test_a_label_that_the_model_has_no_logit_for_is_named(name, wrong):
    y = Y.clone()
    y[3] = wrong
    with pytest.raises(InputError, match=rf"label {wrong} is outside \[0, {CLASSES}\)"):
        ATTACKS[name].run(Wrapped(), X, y)


@every_attack
def test_probabilities_are_said(name):
    with pytest.warns(UserWarning, match="look like probabilities"):
        ATTACKS[name].run(Probabilities(), X, Y)


@every_attack
@pytest.mark.filterwarnings("ignore:the model answers differently")
def test_images_for_a_randomised_model_stay_in_the_box(name):
    result = ATTACKS[name].run(Randomised(), X, Y)
    assert 0 <= result.images.min() <= result.images.max() <= 1
    assert torch.equal(result.success, result.success & (result.restart >= 0))
