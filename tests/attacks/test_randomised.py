"""A randomised model is wrong now and then without any attack: luck is no success."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import (
    APGD,
    BIM,
    EOT,
    FAB,
    FGSM,
    JSMA,
    MIFGSM,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    HyperplaneAttack,
    Square,
    Targeted,
    WorstOf,
)
from lightning_adv.attacks.randomised import VERDICT_DRAWS, answers_differ, averaged, drawn_logits

from .problems import binary_linear_problem, images

NOTHING = 1e-6
"""A budget that moves no answer of these models."""

ATTACKS = {
    "fgsm": FGSM(eps=0),
    "bim": BIM(eps=0, steps=6),
    "mifgsm": MIFGSM(eps=NOTHING, steps=6),
    "pgd": PGD(eps=0, steps=10),
    "pgd-restarts": PGD(eps=0, steps=3, restarts=4),
    "apgd": APGD(eps=0, steps=10),
    "apgd-l1": APGD(eps=NOTHING, steps=10, norm="L1"),
    "apgd-targets": APGD(eps=0, steps=5, loss="dlr", targets=3),
    "square": Square(eps=0, queries=30),
    "fab": FAB(eps=NOTHING, steps=5),
    "fab-without-eps": FAB(steps=3, norm="L2", eps=NOTHING, restarts=2),
    "deepfool": DeepFool(eps=NOTHING, steps=3),
    "carlini-wagner": CarliniWagner(steps=10, binary_search_steps=1, eps=NOTHING),
    "jsma": JSMA(theta=NOTHING, gamma=2 / 72),
    "hyperplane": HyperplaneAttack(eps=0),
    "targeted": Targeted(PGD(eps=0, steps=5), "next"),
    "targeted-all": Targeted(PGD(eps=0, steps=5), "all"),
    "worst-of": WorstOf(
        [APGD(eps=0, steps=5), APGD(eps=0, steps=5, targets=1), FAB(eps=0, steps=3), Square(eps=0, queries=10)]
    ),
    "eot": EOT(PGD(eps=0, steps=5), samples=3),
    "eot-square": EOT(Square(eps=0, queries=10), samples=3),
    "eot-of-all": EOT(WorstOf([PGD(eps=0, steps=3), FGSM(eps=0)]), samples=3),
    "autoattack-rand": AutoAttack(eps=0.0, version="rand"),
}


class Wavering(nn.Module):
    """Adds noise to the logits of a classifier, from the global generator or from one of its own."""

    def __init__(self, model: nn.Module, size: float = 0.25, own: torch.Generator | None = None) -> None:
        super().__init__()
        self.model, self.size, self.own = model, size, own
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x.double())
        self.batches.append(len(x))
        return logits + self.size * torch.randn(logits.shape, generator=self.own, dtype=logits.dtype)


def wavering_problem(own: bool = False) -> tuple[Wavering, Tensor, Tensor]:
    """A model that is right about every image on the whole, and wrong in one draw of eight."""
    model, x, y = binary_linear_problem(count=24, margin=0.4)
    return Wavering(model, own=torch.Generator().manual_seed(1) if own else None), x, y


def wrong_on_the_whole(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return averaged(drawn_logits(model, x)).argmax(dim=1) != y


def test_the_problem_is_one_of_luck():
    model, x, y = wavering_problem()
    wrong = drawn_logits(model, x).argmax(dim=2) != y[:, None]
    assert 0.1 < wrong.double().mean() < 0.3
    assert wrong.any(dim=1).double().mean() > 0.8
    assert not wrong_on_the_whole(model, x, y).any()


@pytest.mark.filterwarnings("ignore:the model answers differently")
@pytest.mark.parametrize("name", ATTACKS)
def test_without_a_budget_nothing_falls_that_does_not_fall_by_itself(name):
    model, x, y = wavering_problem()
    result = ATTACKS[name].run(model, x, y)
    assert result.draws == VERDICT_DRAWS
    assert not result.success.any()
    assert (result.restart == -1).all()
    y[::3] = 1 - y[::3]  # wrong from the outset
    found = ATTACKS[name].run(model, x, y)
    assert torch.equal(found.success, wrong_on_the_whole(model, x, y))
    assert torch.equal(found.success, found.restart >= 0)
    assert torch.equal(found.success, found.logits.argmax(dim=1) != y)


@pytest.mark.filterwarnings("ignore:the model answers differently")
@pytest.mark.parametrize("attack", [PGD(eps=0.2, steps=10), EOT(FGSM(eps=0.2), samples=4)])
def test_with_a_budget_that_suffices_everything_falls(attack):
    model, x, y = wavering_problem()
    assert attack.run(model, x, y).success.all()


@pytest.mark.filterwarnings("ignore:the model answers differently")
def test_luck_ends_no_search():
    model, x, y = wavering_problem()
    PGD(eps=0, steps=20).run(model, x, y)
    assert model.batches == [len(x)] * (20 + 1 + VERDICT_DRAWS)


@pytest.mark.filterwarnings("ignore:the model answers differently")
def test_reaching_a_class_is_no_success_where_another_one_was_meant():
    model, x, y = wavering_problem()
    result = PGD(eps=0, steps=5).run(model, x, y, target=1 - y)
    assert not result.success.any()
    assert PGD(eps=0.2, steps=10).run(model, x, y, target=1 - y).success.all()


def test_an_attack_on_single_draws_warns_and_one_on_the_mean_does_not():
    model, x, y = wavering_problem()
    with pytest.warns(UserWarning, match=r"answers differently to the same images.*use EOT or AutoAttack\(version="):
        PGD(eps=0, steps=2).run(model, x, y)
    EOT(PGD(eps=0, steps=2), samples=2).run(model, x, y)
    WorstOf([EOT(FGSM(eps=0), samples=2)]).run(model, x, y)


def test_a_generator_of_the_models_own_shows_to_the_draws_of_eot():
    model, x, y = wavering_problem(own=True)
    result = EOT(Square(eps=0, queries=30), samples=4).run(model, x, y)
    assert result.draws == VERDICT_DRAWS
    assert result.success.sum() <= 1


@pytest.mark.parametrize("attack", [PGD(eps=0.05, steps=5), EOT(PGD(eps=0.05, steps=5), samples=3)])
def test_a_model_that_always_answers_the_same_is_judged_once(attack):
    model, x, y = binary_linear_problem(count=8, margin=0.1)
    assert attack.run(model, x, y).draws == 1


@pytest.mark.filterwarnings("ignore:the model answers differently")
@pytest.mark.parametrize("attack", [PGD(steps=2), WorstOf([FGSM(), PGD(steps=2)]), EOT(FGSM(), samples=2)])
def test_the_global_generator_is_put_back(attack):
    model, x, y = wavering_problem()
    state = torch.get_rng_state()
    attack.run(model, x, y)
    assert torch.equal(torch.get_rng_state(), state)


def test_answers_differ_by_more_than_rounding_whatever_classes_are_masked():
    answer = torch.tensor([[1.0, 2.0, -torch.inf, torch.nan]])
    assert not answers_differ(answer, answer + 1e-4)
    assert answers_differ(answer, answer + 0.1)


def test_draws_differ_from_each_other_and_repeat_themselves():
    model, x, _ = wavering_problem()
    draws = drawn_logits(model, x, 3)
    assert torch.equal(draws, drawn_logits(model, x, 3))
    assert not torch.equal(draws[:, 0], draws[:, 1])
    assert not torch.equal(draws, drawn_logits(model, x, 3, seed=1))
    assert torch.equal(drawn_logits(nn.Flatten(), images(2), 2)[:, 1], images(2).flatten(1))
