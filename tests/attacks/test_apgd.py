"""Auto-PGD finds the optimum without a step size, and counts as AutoAttack's package does."""

import pytest
import torch

from lightning_adv.attacks import APGD, PGD, perturbation_norms
from lightning_adv.attacks.losses import dlr, margin
from lightning_adv.errors import InputError

from .problems import EPS, binary_linear_problem, dual_norm, tilted_problem, weight_difference

VARIANTS = {"ce": {}, "dlr": {"loss": "dlr"}, "targeted": {"loss": "dlr", "targets": 2}}
every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.mark.parametrize(
    ("norm", "reach", "falls"),
    # Its sparse L1 steps spend some of the budget beside the best pixel.
    [(n, r, f) for n, above in (("Linf", 1.03), ("L2", 1.03), ("L1", 1.5)) for r, f in ((0.97, False), (above, True))],
)
def test_succeeds_exactly_where_the_budget_exceeds_the_minimal_distance(norm, reach, falls):
    model, x, y = binary_linear_problem(margin=0.3)
    minimal = 0.3 / dual_norm(weight_difference(model), norm)
    result = APGD(eps=reach * minimal, steps=60, norm=norm).run(model, x, y)
    assert result.success.tolist() == [falls] * len(x)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_breaks_all_that_pgd_breaks(norm):
    model, x, y = tilted_problem(40)
    pgd = PGD(eps=EPS[norm], steps=40, norm=norm).run(model, x, y).success
    apgd = APGD(eps=EPS[norm], steps=100, norm=norm).run(model, x, y).success
    assert 0 < pgd.sum() < len(x)
    assert not (pgd & ~apgd).any()


def test_a_robust_sample_costs_one_forward_more_than_steps():
    model, x, y = binary_linear_problem(margin=0.3)
    calls = []
    model.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    APGD(eps=1e-4, steps=25).run(model, x, y)
    assert calls == [len(x)] * 26


def test_finished_samples_leave_the_batch():
    model, x, y = tilted_problem(24)
    sizes = []
    model.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    result = APGD(eps=EPS["Linf"], steps=30).run(model, x, y)
    assert sizes[0] == 24
    assert sizes[-1] == int((~result.success).sum())


def test_dlr_does_not_see_the_scale_of_the_logits():
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(5)
    for target in (None, (y + 1) % 6):
        assert torch.allclose(dlr(logits, y, target), dlr(1e4 * logits, y, target), rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_dlr_keeps_its_sign_with_few_classes(classes):
    logits = torch.randn(20, classes, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % classes
    assert torch.equal(dlr(logits, y, None) > 0, margin(logits, y, None) > 0)
    assert dlr(logits, y, (y + 1) % classes).isfinite().all()


def test_the_l1_search_in_larger_balls_is_not_credited():
    model, x, y = tilted_problem()
    result = APGD(eps=EPS["L1"], steps=30, norm="L1").run(model, x, y)
    assert perturbation_norms(x, result.images)["L1"].max() <= EPS["L1"] + 1e-5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"loss": "mse"}, "ce or dlr"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"targets": -1}, "targets must not be negative"),
        ({"rho": 1.5}, "rho must lie between 0 and 1"),
        ({"eps": 8}, "did you mean 8/255"),
    ],
)
def test_refuses_what_cannot_be_meant(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        APGD(**arguments)
