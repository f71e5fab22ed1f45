"""Labels of every kind, and classes that a net rules out: the right loss or one sentence."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import (
    APGD,
    DDN,
    EOT,
    FAB,
    FGSM,
    JSMA,
    MIFGSM,
    PGD,
    CarliniWagner,
    DeepFool,
    Square,
    Targeted,
    WorstOf,
)
from lightning_adv.attacks.losses import cross_entropy, dlr, margin
from lightning_adv.detectors import STRIP
from lightning_adv.errors import InputError
from lightning_adv.objectives import (
    ABL,
    AWP,
    EAT,
    IKL,
    LSE,
    MART,
    NFGSM,
    TRADES,
    AdversarialTraining,
    CrossEntropy,
    FastAdversarialTraining,
    FreeAdversarialTraining,
    GradAlign,
    GradientAscent,
    InputAware,
)

from .problems import batch, smooth_net

CLASSES = 3
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16]
QUICK = {"steps": 2, "eps": 0.05}
OBJECTIVES = {
    "standard": CrossEntropy(),
    "smoothed": CrossEntropy(label_smoothing=0.1),
    "abl": ABL(),
    "abl-flooding": ABL(method="flooding"),
    "ascent": GradientAscent(),
    "madry": AdversarialTraining(PGD(**QUICK)),
    "goodfellow": AdversarialTraining(FGSM(eps=0.05), clean_weight=0.5),
    "trades": TRADES(PGD(**QUICK, start="gaussian")),
    "mart": MART(PGD(**QUICK, start="gaussian")),
    "fast": FastAdversarialTraining(0.05),
    "n-fgsm": NFGSM(0.05),
    "grad-align": GradAlign(0.05),
    "ikl": IKL(PGD(**QUICK)),
    "lse": LSE(PGD(**QUICK), label_smoothing=0.1),
    "extremes": EAT(WorstOf([PGD(**QUICK), APGD(steps=2, eps=0.5, norm="L1")])),
    "each": AdversarialTraining(PGD(**QUICK), random_eps="sample"),
    "free": FreeAdversarialTraining(0.05),
    "input-aware": InputAware(1, width=4, halvings=1),
    "awp": AWP(AdversarialTraining(PGD(**QUICK))),
    "awp-mart": AWP(MART(PGD(**QUICK))),
}
NEED_CLASSES = {"input-aware"}
ATTACKS = {
    "pgd": PGD(**QUICK),
    "mifgsm": MIFGSM(**QUICK),
    "eot": EOT(PGD(**QUICK), samples=2),
    "apgd-ce": APGD(eps=0.05, steps=3),
    "apgd-dlr": APGD(eps=0.05, steps=3, loss="dlr"),
    "targeted": Targeted(PGD(**QUICK)),
    "square": Square(eps=0.05, queries=3),
    "ddn": DDN(steps=2),
    "deepfool": DeepFool(steps=2),
    "fab": FAB(steps=2),
    "jsma": JSMA(),
    "cw": CarliniWagner(binary_search_steps=1, steps=2),
    "worst": WorstOf([PGD(**QUICK), Square(eps=0.05, queries=3)]),
}
TAKE_PROBABILITIES = {"pgd", "mifgsm", "eot", "apgd-ce", "targeted"}

every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def of(name: str, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Loss, logits and gradients of an objective, with the same random numbers at every call."""
    torch.manual_seed(3)
    loss, logits = OBJECTIVES[name](model, x, y)
    weights = [p for p in model.parameters() if p.requires_grad]
    return loss.detach(), logits, list(torch.autograd.grad(loss, weights, allow_unused=True))


def one_hot(y: Tensor) -> Tensor:
    return nn.functional.one_hot(y, CLASSES).float()


@every_objective
@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integer_type_are_the_same_labels(name, dtype):
    model, (x, y) = smooth_net(), batch()
    wanted, given = of(name, model, x, y), of(name, model, x, y.to(dtype))
    assert torch.equal(wanted[0], given[0])
    assert all(torch.equal(*pair) for pair in zip(wanted[2], given[2], strict=True))


@every_objective
@pytest.mark.parametrize("wrong", [Tensor.float, Tensor.bool, lambda y: one_hot(y).long(), lambda y: y[:-1]])
def test_labels_that_are_no_classes_are_refused_in_one_sentence(name, wrong):
    x, y = batch()
    with pytest.raises(InputError, match=r"^labels must be 8 integers, one an image, got [^\n]*$"):
        OBJECTIVES[name](smooth_net(), x, wrong(y))


@every_objective
def test_a_distribution_over_the_classes_is_trained_on_or_refused_in_one_sentence(name):
    model, (x, y) = smooth_net(), batch()
    if name in NEED_CLASSES:
        with pytest.raises(InputError, match=r"^InputAware needs the one class of [^\n]*mixup[^\n]*$"):
            of(name, model, x, one_hot(y))
        return
    certain, labelled = of(name, model, x, one_hot(y)), of(name, model, x, y)
    torch.testing.assert_close(certain[0], labelled[0])
    torch.testing.assert_close(certain[2], labelled[2])


def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses():
    model, (x, y) = smooth_net(), batch()
    other = (y + 1) % CLASSES
    mixed = 0.3 * one_hot(y) + 0.7 * one_hot(other)
    for name in ("standard", "smoothed", "mart"):
        objective, x_adv = OBJECTIVES[name], (x + 0.05).clamp(0, 1)
        losses = [objective.loss(model, x, x_adv, each)[0] for each in (y, other)]
        torch.testing.assert_close(objective.loss(model, x, x_adv, mixed)[0], 0.3 * losses[0] + 0.7 * losses[1])


@pytest.mark.parametrize("wrong", [lambda p: 2 * p, lambda p: p - 0.5, lambda p: p * torch.nan])
def test_rows_that_are_no_probabilities_are_refused(wrong):
    x, y = batch()
    with pytest.raises(InputError, match="must be probabilities, rows that sum to 1"):
        CrossEntropy()(smooth_net(), x, wrong(one_hot(y)))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_moves_away_from_probabilities_or_says_that_it_cannot(name):
    model, (x, y) = smooth_net(), batch()
    attack = ATTACKS[name]
    assert attack.takes_probabilities == (name in TAKE_PROBABILITIES)
    if not attack.takes_probabilities:
        for entry in (attack, attack.run, attack.craft):
            with pytest.raises(InputError, match=r"moves away from one class and cannot[^\n]*craft with PGD[^\n]*$"):
                entry(model, x, one_hot(y))
        return
    torch.manual_seed(0)
    certain = attack.craft(model, x, one_hot(y))
    torch.manual_seed(0)
    torch.testing.assert_close(certain, attack.craft(model, x, y))
    torch.testing.assert_close(attack(model, x, one_hot(y)), attack(model, x, y))
    found, labelled = attack.run(model, x, one_hot(y)), attack.run(model, x, y)
    assert torch.equal(found.success, labelled.success)
    torch.testing.assert_close(found.images, labelled.images)


@pytest.mark.parametrize("name", [*sorted(TAKE_PROBABILITIES - {"targeted"}), "worst-known"])
def test_an_attack_raises_the_loss_of_a_mixture_and_refuses_one_of_another_number_of_classes(name):
    model, (x, y) = smooth_net(), batch()
    attack = ATTACKS.get(name, WorstOf([PGD(**QUICK), FGSM(eps=0.05)]))
    mixed = 0.6 * one_hot(y) + 0.4 * one_hot((y + 1) % CLASSES)
    for x_adv in (attack(model, x, mixed), attack.craft(model, x, mixed)):
        with torch.no_grad():
            assert (cross_entropy(model(x_adv), mixed, None) > cross_entropy(model(x), mixed, None)).all()
    for entry in (attack, attack.run, attack.craft):
        with pytest.raises(InputError, match="probabilities of 4 classes for a model of 3"):
            entry(model, x, nn.functional.pad(mixed, (0, 1)))


class Masked(nn.Module):
    """A net and classes that it rules out, at the front and at the end."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        never = torch.full_like(logits[:, :1], -torch.inf)
        return torch.cat([never, logits, never], dim=1)


@every_objective
def test_classes_that_the_net_rules_out_change_nothing(name):
    net, (x, y) = smooth_net(), batch()
    OBJECTIVES["free"].delta = None
    loss, _, grads = of(name, net, x, y)
    OBJECTIVES["free"].delta = None
    masked, _, masked_grads = of(name, Masked(net), x, y + 1)
    torch.testing.assert_close(masked, loss)
    torch.testing.assert_close(masked_grads, grads, rtol=1e-4, atol=1e-6)


def test_trades_crafts_the_same_images_where_classes_are_ruled_out():
    net, (x, y) = smooth_net(), batch()
    crafted = []
    for model, label in ((net, y), (Masked(net), y + 1)):
        torch.manual_seed(0)
        crafted.append(OBJECTIVES["trades"].craft(model, x, label))
    torch.testing.assert_close(*crafted)
    assert (crafted[1] - x).abs().amax() > 0.04


MASKED_RUNS = ATTACKS | {
    "apgd-targets": APGD(eps=0.05, steps=3, loss="dlr", targets=2),
    "fab-targets": FAB(steps=2, targets=2),
    "all": Targeted(PGD(**QUICK), "all"),
    "cw-linf": CarliniWagner(norm="Linf", binary_search_steps=1, steps=2),
}


@pytest.mark.parametrize("name", MASKED_RUNS)
def test_an_attack_finds_the_same_images_where_classes_are_ruled_out(name):
    net, (x, _) = smooth_net(), batch()
    y = net(x).argmax(dim=1)
    plain, masked = MASKED_RUNS[name].run(net, x, y), MASKED_RUNS[name].run(Masked(net), x, y + 1)
    assert torch.equal(masked.success, plain.success)
    torch.testing.assert_close(masked.images, plain.images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, dlr, margin])
@pytest.mark.parametrize("classes", [2, 3, 4, 6])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_losses_of_attacks_do_not_see_classes_that_are_ruled_out(loss, classes, targeted):
    logits = torch.randn(5, classes, requires_grad=True)
    y = torch.arange(5) % classes
    target = (y + 1) % classes if targeted else None
    never = torch.full((5, 1), -torch.inf)
    plain = loss(logits, y, target)
    masked = loss(torch.cat([never, logits, never, never], dim=1), y + 1, None if target is None else target + 1)
    torch.testing.assert_close(masked, plain)
    grads = [torch.autograd.grad(each.sum(), logits)[0] for each in (plain, masked)]
    torch.testing.assert_close(*grads)
    assert grads[0].abs().sum() > 0


def test_strip_does_not_see_classes_that_are_ruled_out():
    net, (x, y) = smooth_net(), batch()
    clean = [(x, y)]
    scores = [STRIP(overlays=4).fit(model, clean).score(model, x) for model in (net, Masked(net))]
    torch.testing.assert_close(*scores)


class Spare(nn.Module):
    """A net beside a head that no loss asks."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.spare = net, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_weights_that_the_loss_does_not_use_do_not_concern_awp():
    net, (x, y) = smooth_net(), batch()
    assert torch.equal(of("awp", Spare(net), x, y)[0], of("awp", net, x, y)[0])


def test_awp_without_a_weight_to_perturb_says_so():
    net, (x, y) = smooth_net(), batch()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.dim() == 1)
    with pytest.raises(InputError, match=r"^AWP perturbs weights, and the model has no trainable one[^\n]*$"):
        OBJECTIVES["awp"](net, x, y)


class Counting(nn.Module):
    """BatchNorm over features, and how many images came at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES))
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.net(x)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"eot"}))
def test_statistics_of_the_batch_are_those_of_the_whole_batch_to_the_last_survivor(name):
    model, (x, _) = Counting().train(), batch(3)
    y = model(x).argmax(dim=1)
    y[:2] = (y[:2] + 1) % CLASSES  # two are wrong before the attack begins, and leave it at once
    model.sizes.clear()
    x_adv = ATTACKS[name].craft(model, x, y, mode="train")
    assert x_adv.isfinite().all()
    assert set(model.sizes) == {3}
