"""What every attack says of what it found: asked of all records in problems.py whose flags allow it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import AttackResult, perturbation_norms
from lightning_adv.attacks.losses import cross_entropy
from lightning_adv.errors import InputError
from lightning_adv.objectives import AdversarialTraining

from .laws import LABELS, crafted, every, outcome, run, speaks_for_its_kind
from .problems import RECORDS, Record, images, tilted_problem


@every()
def test_the_result_describes_its_images(name):
    model, _, y = RECORDS[name].problem()
    result, attack = outcome(name), RECORDS[name].attack
    assert isinstance(result, AttackResult)
    with torch.no_grad():
        logits = model(result.images.to(torch.double if RECORDS[name].any_model else torch.float)).float()
    if attack.draws > 1:  # the logarithm of a mean of predictions
        logits = logits.log_softmax(dim=1)
    torch.testing.assert_close(result.logits, logits, rtol=1e-4, atol=1e-5)
    wrong = result.logits.argmax(dim=1) != y
    assert not (result.success & ~wrong).any()
    assert attack.reaches or torch.equal(result.success, wrong)
    assert torch.equal(result.success, result.restart >= 0)
    assert not result.zero_gradient.any()


@every(lambda record: not record.attack.reaches)
def test_the_best_of_all_iterates_is_at_least_as_strong_as_the_last(name):
    model, _, y = RECORDS[name].problem()
    result, last = outcome(name), crafted(name, "call")
    with torch.no_grad():
        logits = model(last.to(torch.double if RECORDS[name].any_model else torch.float)).float()
    assert (result.success >= (logits.argmax(dim=1) != y)).all()
    failed = ~result.success
    best, final = (F.cross_entropy(found, y, reduction="none")[failed] for found in (result.logits, logits))
    assert RECORDS[name].attack.loss is not cross_entropy or (best >= final - 1e-5).all()


@every(lambda record: not record.attack.reaches)
def test_an_image_that_is_wrong_from_the_outset_is_a_success_of_the_first_run(name):
    model, x, y = RECORDS[name].problem()
    result = run(name, model, x, (y + 1) % 3)
    assert result.success.all()
    assert result.restart.tolist() == [0] * len(x)
    assert not RECORDS[name].stays or torch.equal(result.images, x)


@every(lambda record: record.aims)
def test_leaving_the_label_for_a_third_class_is_no_success_where_a_target_is_given(name):
    model, x, y = RECORDS[name].problem()
    target = (y + 1) % 3
    result = run(name, model, x, y, target=target)
    assert torch.equal(result.success, result.logits.argmax(dim=1) == target)


@every(lambda record: not record.aims)
def test_an_attack_that_chooses_its_classes_refuses_others(name):
    model, x, y = tilted_problem()
    with pytest.raises(InputError, match="target"):
        run(name, model, x, y, target=(y + 1) % 3)


def is_bounded_search(record: Record) -> bool:
    return record.attack.shortest is not None and record.attack.has_budget


@every(is_bounded_search)
def test_a_budget_decides_success_and_is_kept(name):
    """Of the samples that the free search fools, those nearer than eps succeed; the others stay where they were."""
    model, x, y = tilted_problem()
    bounded, result = RECORDS[name].attack, outcome(name)
    free = copy.copy(bounded)
    free.eps = None
    near = perturbation_norms(x, free.run(model, x, y).images)[bounded.norm] <= bounded.eps
    assert 0 < near.sum() < len(x)
    assert torch.equal(result.success, near)
    assert torch.equal(result.images[~near], x[~near])
    assert perturbation_norms(x, bounded.craft(model, x, y))[bounded.norm].max() <= bounded.eps + 1e-6


@every(lambda record: not record.attack.has_budget)
def test_warm_up_and_sweeps_of_an_attack_without_a_budget_are_refused(name):
    attack = RECORDS[name].attack
    assert attack.eps is None
    with pytest.raises(InputError, match="has no eps"):
        attack.scaled(0.5)
    for options in ({"warmup_epochs": 2}, {"random_eps": True}):
        with pytest.raises(InputError, match="has no eps"):
            AdversarialTraining(attack, **options)


@every(lambda record: record.attack.has_budget)
def test_a_scaled_attack_has_the_scaled_budget_and_leaves_the_original_alone(name):
    attack = RECORDS[name].attack
    before, half = repr(attack), attack.scaled(0.5)
    AdversarialTraining(attack, warmup_epochs=2)
    assert repr(attack) == before != repr(half)
    assert type(half) is type(attack)
    assert (half.norm, half.steps, half.restarts, half.seed) == (
        attack.norm,
        attack.steps,
        attack.restarts,
        attack.seed,
    )
    for whole, part in zip((attack, *attack.members.values()), (half, *half.members.values()), strict=True):
        assert whole.eps is part.eps is None or part.eps == pytest.approx(whole.eps / 2)
        assert whole.step_size is part.step_size is None or part.step_size == pytest.approx(whole.step_size / 2)


@every(lambda record: record.any_model and speaks_for_its_kind(record))
def test_nan_logits_never_carry_an_image_out_of_the_box(name):
    def broken(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * torch.nan

    result = run(name, broken, images(), LABELS)
    for found in (RECORDS[name].attack(broken, images(), LABELS), result.images):
        assert 0 <= found.min() <= found.max() <= 1
    assert result.success.all(), "a model that the attacker breaks is not robust"
    assert not result.zero_gradient.any(), "there was no gradient that could have been zero"


@every()
def test_an_empty_batch_is_refused(name):
    model, x, y = RECORDS[name].problem()
    for attacked in (RECORDS[name].attack, RECORDS[name].attack.run):
        with pytest.raises(InputError, match="the batch is empty: an attack needs at least one image"):
            attacked(model, x[:0], y[:0])
