"""Training against several budgets: of one image each, of several norms, and with an attack that judges itself."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import (
    APGD,
    BIM,
    EOT,
    FGSM,
    MIFGSM,
    NIFGSM,
    PGD,
    Attack,
    DeepFool,
    Goal,
    Noise,
    SampleNoise,
    Square,
    Targeted,
    WorstOf,
    perturbation_norms,
)  # fmt: skip
from lightning_adv.errors import InputError
from lightning_adv.objectives import EAT, NFGSM, TRADES, AdversarialTraining

from .problems import batch, normalised_net, smooth_net

SHARES = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
EACH = {
    "pgd": PGD(eps=0.1, steps=3),
    "pgd-l2": PGD(eps=0.5, steps=3, norm="L2"),
    "pgd-l1": PGD(eps=2.0, steps=3, norm="L1"),
    "gaussian": PGD(eps=0.1, steps=3, start="gaussian"),
    "fgsm": FGSM(eps=0.1),
    "bim": BIM(eps=0.1, steps=3),
    "mifgsm": MIFGSM(eps=0.1, steps=3),
    "nifgsm": NIFGSM(eps=0.1, steps=3),
    "apgd": APGD(eps=0.1, steps=6),
    "apgd-l2": APGD(eps=0.5, steps=6, norm="L2"),
    "apgd-l1": APGD(eps=2.0, steps=8, norm="L1"),
    "eot": EOT(PGD(eps=0.1, steps=3), samples=2),
    "targeted": Targeted(PGD(eps=0.1, steps=3)),
    "worst": WorstOf([PGD(eps=0.1, steps=3), APGD(eps=0.5, steps=4, norm="L2")]),
}


def crafted(attack: Attack, index: list[int], shares: Tensor | None = None) -> Tensor:
    x, y = batch()
    noise = SampleNoise(0, torch.tensor(index))
    return attack.craft(smooth_net(), x[index], y[index], noise=noise, shares=shares)


@pytest.mark.parametrize("name", EACH)
def test_an_image_with_a_budget_of_its_own_is_attacked_as_by_the_attack_of_that_budget(name):
    together = crafted(EACH[name], list(range(8)), SHARES)
    alone = torch.cat([crafted(EACH[name].scaled(share), [i]) for i, share in enumerate(SHARES.tolist())])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    assert torch.equal(together[0], batch()[0][0])


def test_an_attack_whose_steps_cannot_be_shortened_refuses_budgets_of_each_image():
    for attack in (Square(eps=0.1, queries=2), DeepFool(eps=0.1), WorstOf([PGD(), Square(queries=2)])):
        with pytest.raises(InputError, match="has one budget for all images; PGD, FGSM and APGD take one each"):
            crafted(attack, list(range(8)), SHARES)
        with pytest.raises(InputError, match="has one eps for all images: random_eps: true draws it each step"):
            AdversarialTraining(attack, random_eps="sample")


@pytest.mark.parametrize("make", [AdversarialTraining, TRADES, NFGSM])
def test_an_eps_drawn_for_each_image_fills_the_range_below_that_of_the_warm_up(make):
    x = torch.full((200, 2, 6, 6), 0.5)
    attack = 0.2 if make is NFGSM else PGD(eps=0.2, step_size=0.2, steps=2)
    objective = make(attack, random_eps="sample", warmup_epochs=2)
    objective.at_epoch(1)
    reach = perturbation_norms(x, objective.craft(smooth_net(), x, torch.zeros(200).long()))["Linf"]
    most = 0.3 if make is NFGSM else 0.1
    assert reach.max() <= most + 1e-6
    counts = torch.histc(reach, 4, 0, most)
    assert ((counts > 30) & (counts < 70)).all()


def test_what_is_drawn_for_each_image_must_be_meant():
    with pytest.raises(InputError, match="random_eps must be true, false or sample, got 'image'"):
        AdversarialTraining(random_eps="image")


class Recording(nn.Module):
    """A net that knows the mode and the number of its forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.modes = normalised_net(), []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.net[1].training)
        return self.net(x)


@pytest.mark.parametrize("steps", [2, 10])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_apgd_costs_training_its_steps_and_one_more_in_the_mode_that_the_objective_wants(steps, mode):
    model, (x, y) = Recording(), batch()
    y = (model.net(x).argmax(dim=1) + 1) % 3  # wrong from the first step, which ends an evaluation
    AdversarialTraining(APGD(eps=0.1, steps=steps), attack_mode=mode)(model, x, y)
    assert model.modes == [mode == "train"] * (steps + 1) + [True]


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x), y, reduction="none")


def test_no_image_leaves_the_batch_of_apgd_in_training_whose_loss_can_still_rise():
    model, (x, y) = smooth_net(), batch()
    y, sizes = (model(x).argmax(dim=1) + 1) % 3, []
    model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    APGD(eps=0.1, steps=12).craft(model, x, y)
    assert sizes == [8] * 13


class To(Attack):
    """Makes images of one brightness."""

    def __init__(self, brightness: float) -> None:
        super().__init__()
        self.brightness = brightness

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        return torch.full_like(goal.x, self.brightness)


def test_training_takes_the_highest_loss_where_an_evaluation_takes_a_success():
    fooled, doubtful = torch.tensor([0.40, 0.45, 0.15]).log(), torch.tensor([0.35, 0.33, 0.32]).log()

    def model(x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(dim=1, keepdim=True)
        return bright * fooled + (1 - bright) * doubtful

    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2).long()
    for attacks in ([To(0.0), To(1.0)], [To(1.0), To(0.0)]):
        assert (WorstOf(attacks).craft(model, x, y) == 0).all()
        assert (WorstOf(attacks).run(model, x, y).images == 1).all()


def test_the_worst_of_several_norms_is_trained_on_for_each_image():
    model, (x, y) = smooth_net(), batch()
    attacks = [BIM(eps=0.02, steps=3), BIM(eps=0.6, steps=3, norm="L2"), BIM(eps=2.0, steps=3, norm="L1")]
    each = torch.stack([losses(model, attack.craft(model, x, y), y) for attack in attacks])
    loss, _ = AdversarialTraining(WorstOf(attacks))(model, x, y)
    torch.testing.assert_close(loss.detach(), each.amax(dim=0).mean())
    assert len(set(each.argmax(dim=0).tolist())) > 1


class Met(Attack):
    """Leaves images as they are, and counts."""

    has_budget = takes_shares = True

    def __init__(self, eps: float = 0.1) -> None:
        super().__init__()
        self.eps, self.count = eps, 0

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        self.count += 1
        return goal.x


def extremes(wrong_of: float) -> tuple[EAT, dict[str, Met]]:
    """After 400 steps in which the first attack fools the share ``wrong_of`` of the images, the second all."""
    attacks = {"first": Met(), "second": Met()}
    objective = EAT(WorstOf(attacks))
    x, y = torch.zeros(10, 1, 2, 2), torch.zeros(10).long()
    answers = {"first": torch.tensor([[1.0, 0.0]] * 10), "second": torch.tensor([[0.0, 1.0]] * 10)}
    answers["first"][: round(10 * wrong_of)] = torch.tensor([0.0, 1.0])
    torch.manual_seed(0)
    for _ in range(400):
        before = attacks["first"].count
        x_adv = objective.craft(lambda x: x.flatten(1)[:, :2], x, y)
        said = answers["first" if attacks["first"].count > before else "second"]
        objective.loss(lambda x, said=said: said.requires_grad_(True), x, x_adv, y)
    return objective, attacks


def test_a_batch_meets_one_attack_and_the_one_withstood_less_often_more():
    objective, attacks = extremes(wrong_of=0.2)
    assert attacks["first"].count + attacks["second"].count == 400
    assert attacks["first"].count / 400 == pytest.approx(0.2 / 1.2, abs=0.06)
    resumed = EAT(WorstOf({"first": Met(), "second": Met()}))
    resumed.load_state_dict(objective.state_dict())
    wrong, seen = resumed.state_dict()["errors"]
    torch.testing.assert_close(wrong / seen, torch.tensor([0.2, 1.0]), rtol=0.03, atol=0.001)
    assert seen.sum() == 400 * 10 + 2


def test_extreme_norms_grow_with_the_warm_up_and_need_attacks_to_draw_from():
    objective = EAT(WorstOf([PGD(eps=0.1), PGD(eps=2.0, norm="L1")]), warmup_epochs=4)
    objective.at_epoch(1)
    assert {objective.current_attack().eps for _ in range(40)} == {0.025, 0.5}
    with pytest.raises(InputError, match="EAT draws from the attacks of a WorstOf, got PGD alone"):
        EAT(PGD())
