"""A search in bfloat16 counts what the model's own precision confirms, and searches again where rounding decided."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.asking import InBfloat16, logits_of
from lightning_adv.attacks import (
    APGD,
    EOT,
    FAB,
    FGSM,
    PGD,
    Attack,
    AutoAttack,
    DeepFool,
    Goal,
    Noise,
    SearchLow,
    Square,
    WorstOf,
)
from lightning_adv.attacks import goal as goals
from lightning_adv.errors import InputError

from .problems import shortened, tilted_problem


class Sum(nn.Module):
    """Class 1 where ten times (what two large numbers differ by) is above ``bar``; bfloat16 sees no difference."""

    def __init__(self, bar: float, least: float = 0.0) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(1, 2), nn.Linear(2, 2), nn.Linear(2, 3)
        weights = {
            "first.weight": [[1.0], [0.0]],
            "first.bias": [4096.0, 4096.0],
            "middle.weight": [[1.0, -1.0], [0.0, 0.0]],
            "middle.bias": [0.0, 0.0],
            "last.weight": [[0.0, 0.0], [10.0, 0.0], [0.0, 0.0]],
            "last.bias": [bar, 0.0, least],
        }
        self.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x.flatten(1))))


X = torch.full((3, 1, 1, 1), 0.1)


def test_rounding_that_looks_like_a_success_is_none():
    model, y = Sum(bar=0.5), torch.ones(3, dtype=torch.long)
    assert (logits_of(model, X).argmax(dim=1) == 1).all()
    assert (InBfloat16(model, X)(X).argmax(dim=1) == 0).all()
    for attack in (FGSM(0.01), PGD(0.01, steps=6), APGD(0.01, steps=6), Square(0.01, queries=9), FAB(0.01, steps=6)):
        assert not attack.lowered().run(model, X, y).success.any(), attack
        assert not SearchLow(attack).run(model, X, y).success.any(), attack


def test_a_success_that_rounding_hides_is_found_by_the_second_search():
    y, attack = torch.zeros(3, dtype=torch.long), PGD(0.2, steps=6)
    for least, near in ((0.0, False), (-1000.0, True)):  # a lead of 1.5 is much of the one spread, little of the other
        model = Sum(bar=1.5, least=least)
        assert attack.run(model, X, y).success.all()
        assert bool(attack.lowered().run(model, X, y).near.all()) is near
        assert bool(SearchLow(attack).run(model, X, y).success.all()) is near


SUITE = {
    "pgd": PGD(0.06, steps=12, restarts=2),
    "apgd": APGD(0.06, steps=12, loss="dlr", targets=2),
    "fab": FAB(0.06, steps=8),
    "square": Square(0.06, queries=60),
    "autoattack": shortened(AutoAttack(0.04), 8),
}


@pytest.mark.parametrize("name", SUITE)
def test_every_success_is_one_in_float32_and_logits_are_those_of_the_images(name):
    model, x, y = tilted_problem()
    model, x = model.float(), x.float()
    for attack in (SUITE[name].lowered(), SearchLow(SUITE[name])):
        found = attack.run(model, x, y)
        logits = logits_of(model, found.images)
        assert torch.allclose(found.logits, logits, atol=1e-5)
        assert torch.equal(found.success, logits.argmax(dim=1) != y)
        assert torch.equal(found.restart >= 0, found.success)
    assert found.success.any()


def test_the_second_search_is_of_those_near_the_boundary_alone(monkeypatch):
    model, x, y = tilted_problem()
    model, x = model.float(), x.float()
    attack, asked = PGD(0.005, steps=3), []
    searched = PGD.run

    def noted(self: PGD, model: nn.Module, x: Tensor, *rest: object, **named: object) -> object:
        asked.append((self.low, len(x)))
        return searched(self, model, x, *rest, **named)

    monkeypatch.setattr(PGD, "run", noted)
    for near, second in ((0.0, []), (1.0, [(False, int((~attack.run(model, x, y).success).sum()))])):
        monkeypatch.setattr(goals, "NEAR", near)
        asked.clear()
        SearchLow(attack).run(model, x, y)
        assert asked == [(True, len(x)), *second]


def test_the_stages_of_both_searches_are_added_up(monkeypatch):
    monkeypatch.setattr(goals, "NEAR", 1.0)
    model, x, y = tilted_problem()
    pair = WorstOf({"fgsm": FGSM(0.01), "pgd": PGD(0.06, steps=8)})
    found = SearchLow(pair).run(model.float(), x.float(), y)
    assert [stage.name for stage in found.stages] == ["fgsm", "pgd"]
    assert found.stages[0].attacked == len(x)
    assert sum(stage.broken for stage in found.stages) == int(found.success.sum())


class Answers(Attack):
    """Asks about the image itself; its noise level tells which of several it is."""

    def __init__(self, eps: float, at: float) -> None:
        super().__init__()
        self.eps, self.at = eps, at

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        return torch.full_like(goal.x, self.at)


def test_an_attack_of_an_ensemble_searches_again_what_it_came_near_itself():
    model, y = Sum(bar=1.5, least=-1000.0), torch.zeros(3, dtype=torch.long)
    asked: list[float] = []
    model.first.register_forward_hook(lambda layer, given, out: asked.extend(given[0][:1, 0].tolist()))
    near, far = Answers(0.5, at=0.125), Answers(0.5, at=-1024.0)
    found = SearchLow(WorstOf({"far": far, "near": near, "last": Answers(0.5, at=-2048.0)})).run(model, X, y)
    assert found.near.all()
    counts = [asked.count(each.at) for each in (far, near)]
    assert counts[1] == counts[0] + 1


def test_compiled_code_is_made_once_for_a_search_with_and_without_gradients():
    torch.compiler.reset()
    made: list[bool] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[object]) -> Callable:
        made.append(torch.is_grad_enabled())
        return graph.forward

    model, x, y = tilted_problem()
    model = model.float()
    model.compile(backend=backend, dynamic=True)
    for attack in (PGD(0.06, steps=6), APGD(0.06, steps=6)):
        found = SearchLow(attack).run(model, x.float(), y)
        assert torch.equal(found.success, logits_of(model, found.images).argmax(dim=1) != y)
    assert len(made) <= 6, made


def test_the_first_and_the_last_layer_stay_as_they_are_and_no_hook_is_left():
    one = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x = torch.rand(5, 1, 2, 2)
    assert torch.equal(InBfloat16(one, x)(x), one(x))
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    x = torch.rand(5, 1, 6, 6)
    lowered = InBfloat16(net, x)
    assert lowered.ends == (net[0], net[4])
    seen = {}
    for place in (1, 2, 3, 4):
        net[place].register_forward_pre_hook(lambda _, given, place=place: seen.update({place: given[0].dtype}))
    lowered(x)
    assert seen == {1: torch.float32, 2: torch.float32, 3: torch.bfloat16, 4: torch.bfloat16}
    assert not any(layer._forward_hooks for layer in net)
    with pytest.raises(RuntimeError):
        lowered(torch.rand(5, 2, 6, 6))
    assert (type(net[0]), type(net[4])) == (nn.Conv2d, nn.Linear)
    assert not torch.is_autocast_enabled("cpu")


def test_a_model_that_draws_is_judged_by_fresh_draws_and_a_training_one_not_lowered():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout1d(), nn.Linear(8, 3))
    x, y = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 2, 0])
    attack = EOT(PGD(0.1, steps=3), samples=2)
    assert SearchLow(attack).run(model, x, y).draws == attack.run(model, x, y).draws
    batched = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(8, 3)
    )
    found = SearchLow(PGD(0.1, steps=3)).run(batched, x, y)
    assert torch.equal(found.images, PGD(0.1, steps=3).run(batched, x, y).images)


def test_an_attack_without_a_budget_is_refused():
    with pytest.raises(InputError, match="DeepFool seeks the nearest success; SearchLow needs an attack with an eps"):
        SearchLow(DeepFool())


class Viewed(nn.Module):
    """Takes images in the usual order alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(len(x), -1))


def test_a_model_that_looks_at_channels_as_they_lie_is_asked_so():
    x, y = torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 2, 0])
    assert InBfloat16(Viewed(), x).layout == torch.contiguous_format
    assert SearchLow(PGD(0.1, steps=2)).run(Viewed(), x, y).images.is_contiguous()


def test_a_model_that_cannot_compute_in_bfloat16_is_refused_in_one_line():
    def picky(x: Tensor) -> Tensor:
        logits = x.flatten(1) @ torch.ones(4, 3)
        return torch.from_numpy(logits.detach().numpy()) + logits  # numpy has no bfloat16

    with pytest.raises(
        InputError, match=r"cannot compute in bfloat16 \(.*\): leave precision: bf16, bf16: true or SearchLow out"
    ):
        SearchLow(FGSM(0.1)).run(picky, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
