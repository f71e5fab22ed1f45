from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from lightning_adv.attacks import (
    APGD,
    BIM,
    BPDA,
    EOT,
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
    Stage,
    SubstituteAttack,
    Targeted,
    WorstOf,
)
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.evaluation.masking import masking_warnings
from lightning_adv.results.attack_row import AttackRow
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
        "one_step_next": Targeted(FGSM(eps=eps, norm=norm), "next"),
        "restarts_at_all": Targeted(PGD(eps=eps, steps=5, norm=norm, restarts=2), "all"),
        "expected": EOT(PGD(eps=eps, steps=5, norm=norm, restarts=2), samples=2),
        "expected_step": EOT(FGSM(eps=eps, norm=norm), samples=2),
        "ensemble": WorstOf([FGSM(eps=eps, norm=norm), FAB(eps=eps, steps=3, norm=norm)]),
        "suite": WorstOf(
            [
                PGD(eps=eps, steps=5, norm=norm),
                FGSM(eps=eps, norm=norm),
                APGD(eps=eps, steps=20, norm=norm),
                Square(eps=eps, queries=60, norm=norm),
            ]
        ),
        "expected_suite": EOT(WorstOf([FGSM(eps=eps, norm=norm), BIM(eps=eps, steps=5, norm=norm)]), samples=2),
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


def transferred(model, attack) -> SubstituteAttack:
    """What a linear substitute makes of the model's answers."""
    substitute = SubstituteAttack(attack, Linear().net, rounds=0, epochs=30, lr=0.01)
    return substitute.fit(model.eval(), images(64, seed=2).tensors[0], CLASSES)


def warned_of(model, attacks, **options):
    evaluation = AttackEvaluation(attacks, **options)
    trainer(evaluation).validate(model, DataLoader(images(40), batch_size=40), verbose=False)
    assert any(0.1 < row.robust_accuracy < 0.9 for row in evaluation.result.attacks)
    return evaluation.result.warnings


@pytest.mark.parametrize(("norm", "eps", "sweep"), [("Linf", 0.08, [0.6]), ("L2", 0.6, []), ("L1", 5.0, [])])
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_no_combination_of_attacks_on_a_sound_model_gives_a_warning(model, kind, norm, eps, sweep):
    sound = learnt_linear() if kind == "linear" else model
    attacks = every_kind_of_attack(norm, eps) | {"transferred": transferred(sound, PGD(eps=eps, steps=5, norm=norm))}
    assert warned_of(sound, attacks, eps_sweep=sweep) == []


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


def stage(name, attacked, broken):
    return Stage(name=name, attacked=attacked, broken=broken, seconds=0.0)


def suite_rows(*stages, **changes):
    """Of an ensemble that met 80 correct images of 100."""
    left = stages[-1].attacked - stages[-1].broken
    return replace(ROW, name="suite", robust_correct=left, stages=list(stages), **changes)


SUITE = WorstOf({"pgd": PGD(eps=0.03, steps=20), "fgsm": FGSM(eps=0.03), "square": Square(eps=0.03)})


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (
            ((80, 40), (40, 7), (33, 2)),
            "fgsm of suite with 1 step(s) breaks 7.0% of the images after pgd of suite with",
        ),
        (((80, 40), (40, 4), (36, 12)), "square of suite, a black box, breaks 12.0% of the images after pgd of suite"),
    ],
)
def test_an_ensemble_is_looked_at_stage_by_stage(stages, words):
    row = suite_rows(*(stage(name, *counts) for name, counts in zip(SUITE.attacks, stages, strict=True)))
    (warning,) = masking_warnings({"suite": SUITE}, [row], {})
    assert words in warning


def test_what_follows_the_gradient_may_break_what_is_left():
    attacks = WorstOf({"fgsm": FGSM(eps=0.03), "square": Square(eps=0.03), "pgd": PGD(eps=0.03, steps=20)})
    row = suite_rows(stage("fgsm", 80, 5), stage("square", 75, 5), stage("pgd", 70, 60))
    assert masking_warnings({"suite": attacks}, [row], {}) == []


def test_a_stage_stands_for_no_more_than_it_can_have_left():
    """PGD as a second stage would alone have left at least its 50; Square alone left 40."""
    attacks = {
        "suite": WorstOf({"square": Square(eps=0.03), "pgd": PGD(eps=0.03, steps=20)}),
        "alone": Square(eps=0.03),
    }
    rows = [suite_rows(stage("square", 80, 28), stage("pgd", 52, 2)), replace(ROW, name="alone", robust_correct=40)]
    (warning,) = masking_warnings(attacks, rows, {})
    assert "alone, a black box, leaves 10.0% less accuracy than pgd of suite with 20" in warning


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (FGSM(eps=0.03), EOT(PGD(eps=0.03, steps=20), samples=4)),
        (EOT(FGSM(eps=0.03), samples=4), EOT(PGD(eps=0.03, steps=20), samples=4)),
        (Targeted(FGSM(eps=0.03), "next"), Targeted(PGD(eps=0.03, steps=20), "next")),
        (FGSM(eps=0.03), EOT(WorstOf([FGSM(eps=0.001), BIM(eps=0.03, steps=20)]), samples=4)),
        (WorstOf([FGSM(eps=0.03)]), WorstOf([WorstOf([BIM(eps=0.03, steps=20)])])),
        (Square(eps=0.03), EOT(APGD(eps=0.03, loss="dlr"), samples=2)),
        (Square(eps=0.03), WorstOf([FGSM(eps=0.03), APGD(eps=0.03)])),
        (Targeted(Square(eps=0.03), "next"), Targeted(PGD(eps=0.03, steps=20), "next")),
        (SubstituteAttack(FGSM(eps=0.03)), PGD(eps=0.03, steps=20)),
        (WorstOf([Square(eps=0.03)]), PGD(eps=0.03, steps=20)),
    ],
    ids=repr,
)
def test_pairs_to_the_same_end_are_compared_through_wrappers(few, many):
    few_stages = [stage(name, 80, 50) for name in few.members]
    rows = [
        replace(ROW, name="few", robust_correct=30, stages=few_stages),
        replace(ROW, name="many", robust_correct=60),
    ]
    (warning,) = masking_warnings({"few": few, "many": many}, rows, {})
    assert "leaves 30.0% less accuracy than" in warning
    assert "masked gradients" in warning


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (EOT(FGSM(eps=0.03), samples=4), PGD(eps=0.03, steps=20)),  # more draws see a randomised model more clearly
        (FGSM(eps=0.04), PGD(eps=0.03, steps=20)),
        (Square(eps=0.3, norm="L2"), PGD(eps=0.3, steps=20)),
        (FGSM(eps=0.03), Targeted(PGD(eps=0.03, steps=20), "next")),
        (Targeted(Square(eps=0.03), "next"), Targeted(PGD(eps=0.03, steps=20), "random")),
        (FGSM(eps=0.03), APGD(eps=0.03, loss="dlr")),
        (Square(eps=0.03), FAB(eps=0.03)),
        (Square(eps=0.03), SubstituteAttack(PGD(eps=0.03, steps=20))),
        (FGSM(eps=0.03), WorstOf([Square(eps=0.03), FAB(eps=0.03)])),
    ],
    ids=repr,
)
def test_pairs_to_different_ends_are_not_compared(few, many):
    rows = [replace(ROW, name="few", robust_correct=30), replace(ROW, name="many", robust_correct=60)]
    assert masking_warnings({"few": few, "many": many}, rows, {}) == []


def test_images_that_no_grey_fools_are_noticed_through_wrappers():
    attacks = {"suite": SUITE, "aimed": Targeted(PGD(eps=0.03, steps=20)), "eot": EOT(PGD(eps=0.03, steps=20))}
    rows = [replace(ROW, name=name, eps=attack.eps) for name, attack in attacks.items()]
    curves = {name: [(0.5, 0.3)] for name in attacks}
    warnings = masking_warnings(attacks, rows, curves)
    assert [each.split(":")[0] for each in warnings] == ["suite", "eot"]  # one grey is of one class, aimed at or not


class Stairs(nn.Module):
    """Pixels in steps: no gradient comes through."""

    def forward(self, x):
        return (12 * x).round() / 12


class Deceptive(torch.autograd.Function):
    """Passes images on; their gradient is true where they are as they were loaded, and turned round anywhere else."""

    @staticmethod
    def forward(ctx, x, loaded):
        known = (x.flatten(1)[:, None] == loaded.flatten(1)).all(dim=2).any(dim=1)
        ctx.sign = torch.where(known, 1.0, -1.0).view(-1, 1, 1, 1)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.sign, None


class Deceives(nn.Module):
    def forward(self, x):
        return Deceptive.apply(x, images(40).tensors[0])


EPS = 0.08
FOLLOWERS = {
    "bim": BIM(eps=EPS, steps=5),
    "eot": EOT(BIM(eps=EPS, steps=5), samples=2),
    "worst": WorstOf([BIM(eps=EPS, steps=5)]),
    "suite": WorstOf({"apgd_t": APGD(EPS, steps=3, loss="dlr", targets=2), "bim": BIM(eps=EPS, steps=5)}),
    "eot_of_worst": EOT(WorstOf([BIM(eps=EPS, steps=5)]), samples=2),
    "nested": WorstOf([WorstOf([BIM(eps=EPS, steps=5)])]),
}
AIMED = {
    "next": Targeted(BIM(eps=EPS, steps=5), "next"),
    "worst_next": Targeted(WorstOf([BIM(eps=EPS, steps=5)]), "next"),
    "all": Targeted(BIM(eps=EPS, steps=5), "all"),
}


def masked_by(module, model):
    model.net.insert(0, module)
    return model.eval()


@pytest.mark.parametrize("name", FOLLOWERS | AIMED)
def test_stairs_before_a_model_give_warnings_through_every_wrapper(model, name):
    attacks = {name: (FOLLOWERS | AIMED)[name]}
    search = Square(eps=EPS, queries=150)
    attacks["search"] = Targeted(search, attacks[name].aim) if attacks[name].aim else search
    warnings = warned_of(masked_by(Stairs(), model), attacks)
    assert any(f"{name}: the input gradient was exactly zero for" in each for each in warnings)
    assert any("search, a black box, leaves" in each for each in warnings)


def test_a_substitute_beats_the_gradients_of_stairs(model):
    masked = masked_by(Stairs(), model)
    warnings = warned_of(masked, {"bim": FOLLOWERS["bim"], "transferred": transferred(masked, FGSM(EPS))})
    assert any("transferred, a black box, leaves" in each for each in warnings)


def test_stairs_that_bpda_opens_give_none(model):
    attacks = FOLLOWERS | AIMED | {"search": Square(eps=EPS, queries=150)}
    assert warned_of(masked_by(BPDA(Stairs()), model), attacks) == []


@pytest.mark.parametrize("name", FOLLOWERS | AIMED)
def test_one_step_that_gets_further_than_many_gives_a_warning_through_every_wrapper(model, name):
    many = (FOLLOWERS | AIMED)[name]
    few = FGSM(EPS)
    few = Targeted(few, many.aim) if many.aim else few
    few = EOT(few, many.draws)
    warnings = warned_of(masked_by(Deceives(), model), {"few": few, name: many})
    assert any("few with 1 step(s) leaves" in each for each in warnings)


def test_a_search_that_goes_on_where_gradients_failed_gives_a_warning_in_an_ensemble(model):
    suite = WorstOf({"bim": BIM(eps=EPS, steps=5), "square": Square(eps=EPS, queries=150)})
    warnings = warned_of(masked_by(Stairs(), model), {"suite": suite})
    assert any("square of suite, a black box, breaks" in each for each in warnings)
