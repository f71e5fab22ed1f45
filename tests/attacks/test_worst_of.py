"""WorstOf: a sample is robust only where every attack fails."""

import pytest
import torch
from torch import Tensor

from lightning_adv.attacks import BIM, FGSM, PGD, perturbation_norms
from lightning_adv.attacks.deepfool import DeepFool
from lightning_adv.attacks.losses import margin
from lightning_adv.attacks.square import Square
from lightning_adv.attacks.targeted import Targeted
from lightning_adv.attacks.worst_of import WorstOf
from lightning_adv.errors import InputError

from .problems import ENTRY_POINTS, Moody, images, tilted_problem, traces

WEAK, L2, SEARCH = FGSM(eps=0.015), PGD(eps=0.12, norm="L2", restarts=2, seed=3), Square(eps=0.04, queries=60)


def three() -> WorstOf:
    return WorstOf({"fgsm": WEAK, "l2": L2, "square": SEARCH})


def test_breaks_what_any_of_the_attacks_breaks():
    model, x, y = tilted_problem()
    attacks = [Targeted(BIM(eps=0.05), "next"), Targeted(BIM(eps=0.04), "least_likely"), L2]
    each = torch.stack([attack.run(model, x, y).success for attack in attacks])
    result = WorstOf(attacks).run(model, x, y)
    assert torch.equal(result.success, each.any(dim=0))
    assert (each & (each.sum(dim=0) == 1)).any(dim=1).all()  # each breaks one that the others do not
    assert not result.success.all()


def test_image_logits_and_restart_are_those_of_the_attack_that_broke_the_sample_first():
    model, x, y = tilted_problem()
    runs = [attack.run(model, x, y) for attack in (WEAK, L2, SEARCH)]
    result = three().run(model, x, y)
    for i in result.success.nonzero().flatten().tolist():
        first = next(run for run in runs if run.success[i])
        torch.testing.assert_close(result.images[i], first.images[i], rtol=0, atol=1e-6)
        torch.testing.assert_close(result.logits[i], first.logits[i], rtol=1e-4, atol=1e-5)
        assert result.restart[i] == first.restart[i]


def test_a_robust_sample_keeps_the_image_of_the_highest_margin():
    model, x, y = tilted_problem()
    runs = [attack.run(model, x, y) for attack in (WEAK, L2, SEARCH)]
    result = three().run(model, x, y)
    robust = ~result.success
    best = torch.stack([margin(run.logits, y, None) for run in runs]).amax(dim=0)
    torch.testing.assert_close(margin(result.logits, y, None)[robust], best[robust])
    assert (result.restart[robust] == -1).all()
    with torch.no_grad():
        torch.testing.assert_close(model(result.images.double()).float(), result.logits, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_attacks_changes_no_verdict():
    model, x, y = tilted_problem()
    back = WorstOf([SEARCH, L2, WEAK]).run(model, x, y)
    assert torch.equal(three().run(model, x, y).success, back.success)


def test_each_attack_sees_the_survivors_of_the_ones_before_and_nothing_is_asked_twice():
    model, x, y = tilted_problem()
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    first = WEAK.run(model, x, y)
    alone, sizes[:] = list(sizes), []
    left = ~first.success
    BIM(eps=1e-4, steps=3).run(model, x[left], y[left])
    second, sizes[:] = list(sizes), []
    WorstOf([WEAK, BIM(eps=1e-4, steps=3)]).run(model, x, y)
    assert sizes == alone + second
    assert max(second) == left.sum() < len(x)


def test_the_stages_tell_what_each_attack_met_and_broke():
    model, x, y = tilted_problem()
    result = three().run(model, x, y)
    broken = [stage.broken for stage in result.stages]
    assert [stage.name for stage in result.stages] == ["fgsm", "l2", "square"]
    assert [stage.attacked for stage in result.stages] == [12, 12 - broken[0], 12 - broken[0] - broken[1]]
    assert sum(broken) == result.success.sum()


def test_ends_when_no_sample_is_left():
    model, x, y = tilted_problem()
    asked: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: asked.append(len(args[0])))
    assert WorstOf([FGSM(eps=0.01), PGD(), SEARCH]).run(model, x, (y + 1) % 3).success.all()
    assert len(asked) == 2


def test_targets_reach_every_attack():
    model, x, y = tilted_problem()
    target = (y + 2) % 3
    result = three().scaled(3).run(model, x, y, target=target)
    assert torch.equal(result.success, result.logits.argmax(dim=1) == target)
    assert 0 < result.success.sum() < len(x)


def test_aimed_as_a_whole_it_reaches_only_the_class_aimed_at():
    model, x, y = tilted_problem()
    result = Targeted(three().scaled(3), "next").run(model, x, y)
    assert torch.equal(result.success, result.logits.argmax(dim=1) == (y + 1) % 3)
    assert 0 < result.success.sum() < len(x)


def test_training_takes_the_image_of_the_highest_loss():
    model, x, y = tilted_problem()
    attacks = [FGSM(eps=0.01), BIM(eps=0.2, norm="L2")]
    crafted = WorstOf(attacks).craft(model, x, y)
    candidates = torch.stack([attack.craft(model, x, y) for attack in attacks])

    def loss(image: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(image.double()), y, reduction="none")

    torch.testing.assert_close(loss(crafted), torch.stack([loss(c) for c in candidates]).amax(dim=0))


def test_training_with_a_minimal_norm_attack_keeps_to_its_budget():
    model, x, y = tilted_problem()
    crafted = WorstOf([FGSM(eps=1e-4), DeepFool(eps=0.1)]).craft(model, x, y)
    moved = perturbation_norms(x, crafted)["L2"]
    assert (moved <= 0.1).all()
    assert 0 < (moved > 0.01).sum() < len(x)  # DeepFool's where it is near enough, else FGSM's


@pytest.mark.parametrize("entry", ENTRY_POINTS)
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_leaves_no_trace_and_works_where_gradients_are_off(entry, context):
    model, x, y = Moody(), images(), torch.tensor([0, 1, 2, 0, 1, 2])
    before = traces(model)
    with context():
        x_adv = ENTRY_POINTS[entry](three(), model, x.clone(), y.clone())
    assert traces(model) == before
    assert not x_adv.requires_grad
    assert not x_adv.is_inference()
    assert 0 <= x_adv.min() <= x_adv.max() <= 1


def test_a_minimal_norm_attack_that_fails_leaves_no_image_outside_its_budget():
    model, x, y = tilted_problem()
    bounded = DeepFool(eps=0.1)
    result = WorstOf([FGSM(eps=1e-4), bounded]).run(model, x, y)
    moved = perturbation_norms(x, result.images)["L2"]
    assert torch.equal(result.success, bounded.run(model, x, y).success)
    assert 0 < result.success.sum() < len(x)
    assert (moved[result.success] <= 0.1).all()
    assert (moved[~result.success] < 0.01).all()  # FGSM's


def test_a_list_is_named_by_class():
    assert list(WorstOf([PGD(), FGSM(), PGD(norm="L2", eps=1)]).attacks) == ["PGD", "FGSM", "PGD_2"]


def test_scaling_scales_every_attack():
    assert [attack.eps for attack in three().scaled(0.5).attacks.values()] == [0.0075, 0.06, 0.02]


@pytest.mark.parametrize("none", [[], {}])
def test_no_attack_is_refused(none):
    with pytest.raises(InputError, match="at least one attack"):
        WorstOf(none)


def test_an_attack_that_succeeds_at_any_distance_is_refused():
    with pytest.raises(InputError, match="attack deepfool has no budget"):
        WorstOf({"pgd": PGD(), "deepfool": DeepFool()})
