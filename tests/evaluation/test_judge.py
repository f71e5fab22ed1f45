"""Evaluations of a randomised model: no attack gains by luck, whatever the callback, and the report says so."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.attacks import APGD, EOT, FAB, FGSM, PGD, DeepFool, Square, Targeted, WorstOf
from lightning_adv.attacks.randomised import RANDOMISED, VERDICT_DRAWS
from lightning_adv.callbacks import (
    AttackEvaluation,
    PhysicalEvaluation,
    PurificationEvaluation,
    TransferEvaluation,
)
from lightning_adv.purifiers import BitDepth
from tests.callbacks.strangers import PlainModule, images, trainer

COUNT = 40
NOTHING = 1e-6
ATTACKS = {
    "pgd": PGD(eps=NOTHING, steps=3, restarts=3),
    "square": Square(eps=NOTHING, queries=10),
    "apgd": APGD(eps=NOTHING, steps=5),
    "targeted": Targeted(FGSM(eps=NOTHING), "next"),
    "ensemble": WorstOf([FGSM(eps=NOTHING), FAB(eps=NOTHING, steps=3)]),
    "eot": EOT(PGD(eps=NOTHING, steps=3), samples=3),
}
alone = pytest.mark.filterwarnings("ignore:the model answers differently")


class Wavering(PlainModule):
    """Another answer every time: wrong in one of five draws, and on the whole as good as without the noise."""

    def __init__(self, size: float = 1.0, own: torch.Generator | None = None) -> None:
        super().__init__()
        self.size, self.own, self.forwards = size, own, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        logits = super().forward(x)
        return logits + self.size * torch.randn(logits.shape, generator=self.own) if self.size else logits


def wavering(model: PlainModule, **options: object) -> Wavering:
    module = Wavering(**options)
    module.load_state_dict(model.state_dict())
    return module


def validated(model, evaluation, batch_size=20):
    trainer(evaluation).validate(model, DataLoader(images(COUNT), batch_size=batch_size), verbose=False)
    return evaluation.result


def test_the_model_is_often_wrong_by_luck(model):
    x, y = images(COUNT).tensors
    noisy = wavering(model).eval()
    with torch.no_grad():
        right = torch.stack([noisy(x).argmax(dim=1) == y for _ in range(20)])
    assert 0.1 < 1 - right.double().mean() < 0.4
    assert right.all(dim=0).double().mean() < 0.6


@alone
def test_six_attacks_without_a_budget_leave_exactly_the_clean_accuracy(model):
    evaluation = AttackEvaluation(ATTACKS | {"deepfool": DeepFool(steps=2)}, eps_sweep=[NOTHING], sweep_samples=COUNT)
    result = validated(wavering(model), evaluation)
    assert result.clean_accuracy > 0.8
    assert {row.robust_correct for row in result.budgeted} == {result.clean_correct}
    assert result.worst_case_correct == result.clean_correct
    for name in ATTACKS:
        assert [accuracy for _, accuracy in result.curves[name]] == [result.clean_accuracy] * 2
    assert not [eps for eps, _ in result.curves["deepfool"] if 0 < eps < 1e-3]


@alone
def test_a_budget_counts_as_it_does_for_the_mean(model):
    strong = {"pgd": PGD(eps=0.3, steps=5), "eot": EOT(PGD(eps=0.3, steps=3), samples=3)}
    result = validated(wavering(model), AttackEvaluation(strong, eps_sweep=[0.1, 0.3]))
    assert all(row.robust_accuracy < 0.1 for row in result.attacks)
    assert all(row.success_rate > 0.9 for row in result.attacks)
    for points in result.curves.values():
        accuracies = [accuracy for _, accuracy in points]
        assert accuracies == sorted(accuracies, reverse=True)


def test_a_generator_of_the_models_own_shows_too(model):
    noisy = wavering(model, own=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="answers differently to the same images"):
        result = validated(noisy, AttackEvaluation({"pgd": ATTACKS["pgd"], "square": ATTACKS["square"]}))
    assert result.draws == VERDICT_DRAWS
    # Fresh draws for every verdict: only images whose mean is at the border may change sides.
    assert result.clean_correct - result.worst_case_correct <= 3


def test_the_report_says_how_verdicts_were_judged_and_which_attacks_to_use(model):
    with pytest.warns(UserWarning, match="answers differently to the same images"):
        result = validated(wavering(model), AttackEvaluation({"fgsm": FGSM(), "eot": ATTACKS["eot"]}))
    assert result.warnings.count(RANDOMISED) == 1
    assert result.as_dict()["draws"] == VERDICT_DRAWS
    assert f"its class is the mean of {VERDICT_DRAWS} draws" in result.tables()[0].note


def test_attacks_on_the_mean_need_no_warning(model):
    result = validated(wavering(model), AttackEvaluation({"eot": ATTACKS["eot"], "all": WorstOf([ATTACKS["eot"]])}))
    assert RANDOMISED not in result.warnings
    assert result.draws == VERDICT_DRAWS


def test_a_model_that_always_answers_the_same_pays_one_forward_an_evaluation(model):
    steady = wavering(model, size=0.0)
    evaluation = AttackEvaluation({"fgsm": FGSM(eps=0.06)})
    result = validated(steady, evaluation, batch_size=COUNT)
    # the check before training, validation itself, one image, the same again, clean images, FGSM and its judgement
    assert steady.forwards == 1 + 1 + 1 + 1 + 1 + 2
    assert (result.draws, result.warnings) == (1, [])
    assert "randomised" not in result.tables()[0].note


@alone
def test_distances_that_luck_made_too_large_are_said(model):
    nearest = {"deepfool": DeepFool(steps=5), "fgsm": ATTACKS["pgd"]}
    steady, shaken = (validated(wavering(model, size=size), AttackEvaluation(nearest)) for size in (0.0, 1.0))
    assert not [text for text in steady.warnings if "distances are too large" in text]
    assert len([text for text in shaken.warnings if text.startswith("deepfool: on a randomised model")]) == 1
    assert shaken.attacks[0].robust_correct > steady.attacks[0].robust_correct


@alone
def test_transferred_images_without_a_budget_change_nothing(model):
    evaluation = TransferEvaluation({"itself": wavering(model)}, {"fgsm": FGSM(eps=NOTHING)})
    result = validated(wavering(model), evaluation)
    assert "the mean prediction over 20 draws" in result.warnings[0]
    (row,) = result.rows
    assert row.robust_correct == row.clean_correct > 0.8 * row.samples
    assert row.deceived == row.transferred == 0


@alone
def test_no_photograph_is_needed_where_an_attack_without_a_budget_did_nothing(model):
    result = validated(wavering(model), PhysicalEvaluation({"fgsm": FGSM(eps=NOTHING), "pgd": PGD(eps=NOTHING)}))
    assert [row.destruction.fooled for row in result.rows] == [0, 0]
    assert "the mean prediction over 20 draws" in result.warnings[0]


@alone
def test_a_randomised_classifier_behind_a_purifier_is_judged_by_as_many_draws(model):
    evaluation = PurificationEvaluation(
        {"bits": BitDepth(8)}, {"pgd": PGD(eps=NOTHING, steps=3)}, draws=8, threat_models=["blind", "bpda"]
    )
    result = validated(wavering(model), evaluation)
    assert "the mean prediction over 8 draws" in result.warnings[0]
    rows = {(row.purifier, row.attack, row.threat): row for row in result.rows}
    correct = {key: row.correct for key, row in rows.items()}
    assert len(set(correct["none", "none", "none"])) > 1  # draws, not one answer repeated
    assert correct["none", "pgd", "none"] == correct["none", "none", "none"]
    clean = rows["bits", "none", "none"]
    assert len(set(clean.correct)) > 1
    for threat in ("blind", "bpda"):
        assert abs(rows["bits", "pgd", threat].mean_correct - clean.mean_correct) <= 2


def test_verdicts_come_again_from_the_journal(model, tmp_path):
    evaluations = [AttackEvaluation({"eot": ATTACKS["eot"]}, verdicts=str(tmp_path)) for _ in range(2)]
    first = validated(wavering(model), evaluations[0])
    resumed = wavering(model)
    again = validated(resumed, evaluations[1])
    assert again.attacks[0].per_class_correct == first.attacks[0].per_class_correct
    batches = COUNT // 20
    # the check, validation, two looks at the first image, clean images; no attack
    assert resumed.forwards == 1 + batches + 2 + batches * VERDICT_DRAWS
