"""What holds for every mitigation: only weights change, and a report says what became of the model."""

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations import ANP, CLP, FST, FTSAM, IBAU, NAD, FinePruning, FineTuning, Mitigation, Repair
from lightning_adv.mitigations.channels import convolutions
from lightning_adv.models.preact_resnet import PreActBlock
from tests.mitigations.problems import DORMANT, USED, halves, hand_built, share, trained


def weights(model):
    return {name: each.clone() for name, each in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2)
    )


SMALL = {"epochs": 2, "lr": 0.1}
EVERY = [
    FineTuning(**SMALL),
    FTSAM(**SMALL),
    FST(**SMALL),
    NAD(**SMALL),
    IBAU(rounds=1),
    FinePruning(epochs=2),
    ANP(accuracy_drop=1.0, steps=4),
    CLP(u=0.1),
]
every_mitigation = pytest.mark.parametrize("mitigation", EVERY, ids=lambda each: type(each).__name__)


@every_mitigation
def test_weights_change_in_place_and_nothing_else_does(mitigation):
    model, images = net().train(), [halves()]
    model[4].eval()
    modes = [each.training for each in model.modules()]
    model[5].bias.requires_grad_(False)
    frozen, before = model[5].bias.clone(), weights(model)
    state = torch.get_rng_state()
    mitigation(model, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert [each.training for each in model.modules()] == modes
    assert all(each.grad is None for each in model.parameters())
    assert torch.equal(model[5].bias, frozen)
    assert all(torch.equal(each, before[f"1.{name}"]) for name, each in model[1].named_buffers())
    assert not same(before, weights(model))
    assert not any(each._forward_hooks for each in model.modules())


@every_mitigation
def test_the_result_is_the_same_again_and_says_what_was_done(mitigation):
    models, reports = (net(), net()), []
    for model in models:
        reports.append(mitigation(model, [halves()]))
    assert same(*map(weights, models))
    assert reports[0] == reports[1]
    assert reports[0].mitigation == repr(mitigation)


@pytest.mark.filterwarnings("ignore:the model's answers look like probabilities")
@every_mitigation
def test_a_softmax_at_the_end_changes_nothing(mitigation):
    plain, with_softmax = net(), net().append(nn.Softmax(dim=1))
    reports = [mitigation(model, [halves()]) for model in (plain, with_softmax)]
    torch.testing.assert_close(plain.state_dict(), with_softmax.state_dict(), rtol=1e-4, atol=1e-5)
    assert [each.correct_after for each in reports] == [reports[0].correct_after] * 2
    assert torch.allclose(with_softmax(halves()[0]).sum(dim=1), torch.ones(1)), "and it answers as before"


def test_the_result_is_a_function_of_the_seed():
    first, again, other = net(), net(), net()
    for model, seed in ((first, 0), (again, 0), (other, 1)):
        FineTuning(epochs=2, seed=seed)(model, [halves()])
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_it_works_where_gradients_are_off():
    images = [halves()]
    expected, model = net(), net()
    FineTuning(epochs=1)(expected, images)
    with torch.no_grad():
        FineTuning(epochs=1)(model, images)
    assert same(weights(expected), weights(model))


def test_the_held_out_images_are_counted_and_not_trained_on():
    """Labels of the held-out images are turned round: a model that had learnt them would get them right."""
    x, y = halves(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    y = y.clone()
    y[order[:10]] = 1 - y[order[:10]]
    report = FineTuning(epochs=5, held_out=0.2, seed=3)(hand_built(), [(x, y)])
    assert (report.tuned_on, report.held_out) == (40, 10)
    assert (report.correct_before, report.correct_after) == (0, 0)


def deep():
    """Many layers without normalisation, as the networks on which a large learning rate blows up."""
    torch.manual_seed(0)
    layers = [each for _ in range(5) for each in (nn.Linear(36, 36), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(36, 2))


def test_fine_tuning_that_diverges_is_done_again_with_clipped_gradients_and_told():
    """One label in ten is turned round, so that there is a gradient left on what was learnt."""
    model, (x, y) = deep(), halves(200)
    FineTuning(epochs=40, lr=0.05)(model, [(x, y)])
    assert share(model, x, y) == 1.0
    report = FineTuning(epochs=10, lr=1.0)(model, [(x, torch.where(torch.arange(200) % 10 == 3, 1 - y, y))])
    assert len(report.repair.warnings) == 1
    assert "done again with gradients clipped to norm 1" in report.repair.warnings[0]
    assert "diverges too" not in report.repair.warnings[0]
    assert share(model, x, y) > 0.9


def test_a_rate_at_which_clipping_does_not_help_is_told_too():
    model = hand_built()
    report = FineTuning(epochs=10, lr=1e4)(model, [halves()])
    assert "diverges too" in report.repair.warnings[0]
    assert "take a smaller lr" in report.repair.warnings[0]


def test_gradients_are_left_alone_where_nothing_diverges():
    """One step is as long as the rate times the gradient, although that is longer than 1."""
    model, (x, y) = hand_built(), halves(5)
    model[-1].bias.data = torch.tensor([9.0, -9.0])
    chosen = torch.randperm(5, generator=torch.Generator().manual_seed(0))[1:]
    loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
    grads = torch.autograd.grad(loss, list(model.parameters()))
    expected = [p.detach() - 1e-3 * grad for p, grad in zip(model.parameters(), grads, strict=True)]
    assert sum(grad.square().sum() for grad in grads) > 2
    report = FineTuning(weight_decay=0, epochs=1, lr=1e-3, batch_size=4)(model, [(x, y)])
    assert report.repair.warnings == ()
    for weight, each in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(weight, each, rtol=0, atol=1e-6)


class Brightness(nn.Module):
    """Images above a brightness are of class 1."""

    def __init__(self):
        super().__init__()
        self.bound, self.rate = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        above = x.mean(dim=(1, 2, 3)) - self.bound
        return torch.stack([-above, above], dim=1)


class Costly(Mitigation):
    """Leaves its rate in the model, and so many of the held-out images wrong as that rate costs."""

    def __init__(self, costs: dict[float, int], lr: float | None = None):
        super().__init__(lr=lr, held_out=0.5)
        self.costs = costs
        self.rates = tuple(costs)

    def repair(self, model, images, held_out):
        assert model.rate == 0, "every rate begins with the model as it came"
        bright = held_out.image[held_out.label == 1].mean(dim=(1, 2, 3)).sort().values
        with torch.no_grad():
            model.bound.copy_(bright[self.costs[self.lr]] - 1e-4)
            model.rate.fill_(self.lr)
        return Repair(warnings=(f"at {self.lr}",))


def shades():
    grey = (torch.arange(200) + 0.5) / 200
    return grey.view(-1, 1, 1, 1).expand(200, 1, 2, 2), (grey > 0.5).long()


def test_the_largest_rate_is_taken_that_costs_no_more_than_two_in_a_hundred_held_out_images():
    model = Brightness()
    report = Costly({0.1: 30, 0.03: 3, 0.01: 2, 0.003: 0})(model, [shades()])
    assert (report.held_out, report.correct_before, report.correct_after) == (100, 100, 98)
    assert report.repair == Repair(lr=0.01, rates=((0.1, 70), (0.03, 97), (0.01, 98)), warnings=("at 0.01",))
    assert model.rate == 0.01


def test_where_every_rate_costs_more_the_one_that_costs_least_is_taken_and_told():
    model = Brightness()
    report = Costly({0.1: 30, 0.03: 5, 0.01: 8})(model, [shades()])
    assert (model.rate, report.repair.lr, report.correct_after) == (0.03, 0.03, 95)
    told, own = report.repair.warnings
    assert "at 0.03, which costs least, 95 of 100 held-out images are right, 100 before" in told
    assert own == "at 0.03"


def test_a_rate_that_is_given_is_not_chosen():
    report = Costly({0.1: 30, 0.01: 0}, lr=0.1)(Brightness(), [shades()])
    assert (report.correct_after, report.repair) == (70, Repair(warnings=("at 0.1",)))


@pytest.mark.parametrize("kind", [FineTuning, FTSAM, FST, NAD, IBAU])
def test_a_chosen_rate_does_what_it_does_when_it_is_given(kind):
    """Labels are turned round, so that the first rate costs too much: nothing is left of the one that is not taken."""
    x, y = halves(100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    y[order[20:]] = 1 - y[order[20:]]
    chosen, given = trained(), trained()
    mitigation = kind()
    mitigation.rates = (1.0, 1e-4)
    report = mitigation(chosen, [(x, y)])
    again = kind(lr=report.repair.lr)(given, [(x, y)])
    assert same(weights(chosen), weights(given))
    assert [rate for rate, _ in report.repair.rates] == [1.0, 1e-4]
    assert max(right for _, right in report.repair.rates) == again.correct_after == report.correct_after


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (halves()[0], "needs clean images with labels"),
        ([(halves()[0][:1], halves()[1][:1])], "at least two"),
        ([(halves()[0], halves()[1] + 7)], r"outside \[0, 2\)"),
        ([(5 * halves()[0], halves()[1])], r"must lie in \[0, 1\]"),
    ],
)
def test_images_that_do_not_suit_are_refused_and_the_model_stays(images, message):
    model = hand_built()
    before = weights(model)
    with pytest.raises(InputError, match=message):
        FineTuning()(model, images)
    assert same(before, weights(model))


def test_a_model_that_cannot_be_trained_is_refused():
    with pytest.raises(InputError, match="none that may be trained"):
        FineTuning()(hand_built().requires_grad_(False), [halves()])
    with pytest.raises(InputError, match="epochs >= 0"):
        FineTuning(epochs=-1)


def test_the_choice_of_a_threshold_ends_before_the_first_that_costs_too_much_and_forgets_the_others():
    """Channel by channel of a network that needs one of its three: clean accuracy alone decides."""
    model, (x, y) = hand_built(), halves()
    (layer,) = convolutions(model, x[:1])
    order = [DORMANT, 1, USED]
    candidates = [(float(n), (layer.pruning(order[:n]),)) for n in (1, 2, 3)]
    before = weights(model)
    repair = FineTuning().prune(model, CleanImages(x, y), candidates, accuracy_drop=0.0)
    assert [each.correct == 60 for each in repair.tried] == [True, True, False]
    assert (repair.threshold, repair.pruned, repair.channels) == (2.0, 2, 3)
    assert torch.equal(model[0].weight[USED], before["0.weight"][USED])
    assert not model[0].weight[order[:2]].any()
    model = hand_built()
    repair = FineTuning().prune(model, CleanImages(x, y), candidates[2:], accuracy_drop=0.0)
    assert (repair.threshold, repair.pruned, repair.channels) == (None, 0, 3)
    assert same(before, weights(model))


def test_a_batchnorm_is_paired_with_the_convolution_that_feeds_it_and_not_with_the_one_before_it():
    """In a pre-activated block the modules lie as norm, convolution, norm, convolution, shortcut."""
    block = PreActBlock(2, 3, stride=2).eval()
    model = nn.Sequential(nn.Conv2d(1, 2, 3), block, nn.Flatten(), nn.Linear(12, 2)).eval()
    pairs = {each.name: each.norm_name for each in convolutions(model, torch.rand(1, 1, 6, 6))}
    assert pairs == {"0": "1.bn1", "1.conv1": "1.bn2", "1.conv2": "", "1.shortcut": ""}
