"""Targeted: which class is aimed at, and that only reaching it counts."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import BIM, PGD
from lightning_adv.attacks.apgd import APGD
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.deepfool import DeepFool
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import DeviceNoise, Noise
from lightning_adv.attacks.square import Square
from lightning_adv.attacks.targeted import Targeted
from lightning_adv.errors import InputError

from .problems import images, smooth_cnn, tilted_problem

SELECTORS = ["least_likely", "random", "next", "all"]
every_selector = pytest.mark.parametrize("selector", SELECTORS)
EPS = 0.1


class Aim(Attack):
    """Moves nothing and remembers what it was aimed at."""

    def __init__(self, restarts: int = 1, seed: int = 0) -> None:
        super().__init__(restarts, seed)
        self.targets: list[Tensor] = []

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        self.targets.append(goal.target.clone())
        return goal.x


def ten_classes(count: int = 40) -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier that is right about every image; all classes occur."""
    x = images(count)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(10, 72, generator=torch.Generator().manual_seed(1)))
        model[1].bias.zero_()
        model[1].bias -= model(x).mean(dim=0)
        return model, x, model(x).argmax(dim=1)


def targets(selector: str, *, seed: int = 0, index: Tensor | None = None) -> Tensor:
    model, x, y = ten_classes()
    index = torch.arange(len(x)) if index is None else index
    aim = Aim(seed=seed)
    Targeted(aim, selector).run(model, x[index], y[index], index=index)
    return torch.stack(aim.targets)


def test_least_likely_aims_at_the_lowest_clean_logit():
    model, x, _ = ten_classes()
    with torch.no_grad():
        assert torch.equal(targets("least_likely")[0], model(x).argmin(dim=1))


def test_next_aims_at_the_label_plus_one_and_wraps_round():
    _, _, y = ten_classes()
    assert (y == 9).any()
    assert torch.equal(targets("next")[0], (y + 1) % 10)


def test_random_aims_at_any_class_but_the_label():
    _, _, y = ten_classes()
    drawn = torch.stack([targets("random", seed=seed)[0] for seed in range(50)])
    assert (drawn != y).all()
    for label in y.unique():
        others = torch.bincount(drawn[:, y == label].flatten(), minlength=10)[torch.arange(10) != label]
        expected = others.sum() / 9
        assert ((others - expected).abs() < 4 * expected.sqrt()).all()


def test_random_classes_belong_to_the_sample_and_not_to_its_batch():
    order = torch.arange(40).flip(0)[::3]
    assert torch.equal(targets("random", index=order)[0], targets("random")[0][order])
    assert torch.equal(targets("random"), targets("random"))
    assert not torch.equal(targets("random"), targets("random", seed=1))


def test_all_aims_at_every_other_class_the_likeliest_first():
    model, x, y = ten_classes()
    with torch.no_grad():
        ranking = model(x).scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    assert torch.equal(targets("all"), ranking[:, :9].T)


def test_restarts_aim_at_the_same_class():
    model, x, y = ten_classes()
    aim = Aim(restarts=3)
    Targeted(aim, "random").run(model, x, y)
    assert len(aim.targets) == 3
    assert torch.equal(aim.targets[0], aim.targets[1])
    assert torch.equal(aim.targets[0], aim.targets[2])


@pytest.mark.parametrize(
    "attack",
    [BIM(eps=EPS), PGD(eps=EPS, restarts=2), Square(eps=EPS, queries=60), APGD(eps=EPS, steps=10, targets=2)],
    ids=lambda attack: type(attack).__name__,
)
def test_any_attack_aimed_is_that_attack_with_the_targets_given(attack):
    model, x, y = tilted_problem()
    given = attack.run(model, x, y, target=(y + 1) % 3)
    chosen = Targeted(attack, "next").run(model, x, y)
    assert torch.equal(chosen.images, given.images)
    assert torch.equal(chosen.success, given.success)
    assert torch.equal(chosen.success, chosen.logits.argmax(dim=1) == (y + 1) % 3)


def test_all_reaches_what_any_single_target_reaches():
    model, x, y = tilted_problem()
    attack = BIM(eps=0.06, steps=7)
    reached = torch.stack([attack.run(model, x, y, target=(y + step) % 3).success for step in (1, 2)])
    result = Targeted(attack, "all").run(model, x, y)
    assert torch.equal(result.success, reached.any(dim=0))
    assert torch.equal(result.success, result.logits.argmax(dim=1) != y)
    assert 0 < result.success.sum() < len(x)


def test_all_goes_on_with_survivors_only():
    model, x, y = tilted_problem()
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    result = Targeted(BIM(eps=0.06, steps=4), "all").run(model, x, y)
    # One look at the clean images; then for each of two classes four steps and one forward to judge the last iterate.
    assert sizes[:6] == [12] * 6
    assert len(sizes) == 11
    assert (~result.success).sum() <= sizes[6] < 12


def test_all_finds_the_nearest_class_of_a_minimal_norm_attack():
    model, x, y = tilted_problem()
    attack = DeepFool()
    runs = [attack.run(model, x, y, target=(y + step) % 3) for step in (1, 2)]
    length = torch.stack(
        [torch.where(r.success, (r.images - x).flatten(1).norm(dim=1), torch.inf) for r in runs]
    )  # [2, N]
    best = Targeted(attack, "all").run(model, x, y)
    assert best.success.all()
    torch.testing.assert_close((best.images - x).flatten(1).norm(dim=1), length.amin(dim=0))
    assert (length[0] < length[1]).any()
    assert (length[0] > length[1]).any()


def test_training_may_aim_away_from_soft_labels():
    model, x, y = tilted_problem()
    noise = DeviceNoise(torch.Generator().manual_seed(0))
    attack = Targeted(BIM(eps=EPS), "least_likely")
    soft = nn.functional.one_hot(y, 3).double()
    assert torch.equal(attack.craft(model, x, soft, noise=noise), attack.craft(model, x, y, noise=noise))


def test_budget_norm_and_scale_are_those_of_the_attack():
    attack = Targeted(PGD(eps=1.0, norm="L2", steps=4, restarts=3, seed=7), "random")
    assert (attack.eps, attack.norm, attack.restarts, attack.seed) == (1.0, "L2", 3, 7)
    assert attack.scaled(0.5).eps == 0.5
    assert attack.scaled(0.5).attack.step_size == attack.attack.step_size / 2
    assert "PGD(eps=1, " in repr(attack)
    assert "selector=random" in repr(attack)
    assert Targeted(Aim(), "random").eps is None


def test_an_unknown_selector_is_refused():
    with pytest.raises(InputError, match="selector must be one of least_likely, random, next, all, got 'hardest'"):
        Targeted(PGD(), "hardest")


@pytest.mark.parametrize("entry", ["__call__", "run"])
def test_a_target_beside_the_selector_is_refused(entry):
    model, x, y = tilted_problem()
    with pytest.raises(InputError, match="selects the target itself"):
        getattr(Targeted(PGD(), "next"), entry)(model, x, y, target=(y + 1) % 3)


@every_selector
def test_a_model_of_one_class_is_refused(selector):
    model = nn.Sequential(smooth_cnn(), nn.Linear(3, 1).double())
    with pytest.raises(InputError, match="one logit an image"):
        Targeted(PGD(), selector).run(model, images(), torch.zeros(6, dtype=torch.int64))
