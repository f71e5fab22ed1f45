"""Attacks of an evaluation that search in bfloat16."""

import pytest

from lightning_adv.attacks import DeepFool, WorstOf
from lightning_adv.callbacks import AttackEvaluation, attack_evaluation

from .test_attack_evaluation import ATTACKS, validated


def test_a_search_in_bfloat16_gives_verdicts_that_float32_confirms(model, monkeypatch):
    monkeypatch.setattr(attack_evaluation, "computes_in_bf16", lambda device: True)
    attacks = ATTACKS | {"suite": WorstOf(ATTACKS), "nearest": DeepFool(steps=2)}
    plain, low = AttackEvaluation(attacks), AttackEvaluation(attacks, precision="bf16")
    for evaluation in (plain, low):
        validated(model, evaluation)
    for row, other in zip(low.result.attacks, plain.result.attacks, strict=True):
        assert abs(row.robust_correct - other.robust_correct) <= 1
        lowered = f"{other.description} searched in bf16"
        assert row.description == (other.description if row.name == "nearest" else lowered)
    assert [stage.name for stage in low.result.attacks[2].stages] == ["fgsm", "pgd"]


def test_a_device_without_instructions_for_bfloat16_is_named(model, monkeypatch):
    monkeypatch.setattr(attack_evaluation, "computes_in_bf16", lambda device: False)
    with pytest.warns(UserWarning, match="attacks: cpu has no instructions for bfloat16: leave precision out"):
        validated(model, AttackEvaluation(ATTACKS, precision="bf16"))
