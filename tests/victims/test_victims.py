"""Classifiers of other techniques behave like modules: same predictions, logits, errors, and twins with gradients."""

import pytest
import torch

from lightning_adv.attacks import FGSM, PGD, Square
from lightning_adv.errors import InputError
from lightning_adv.victims import (
    DecisionTreeVictim,
    EnsembleVictim,
    GradientBoostingVictim,
    LinearSVMVictim,
    LogisticRegressionVictim,
    NearestNeighboursVictim,
    RandomForestVictim,
    RBFSVMVictim,
    SoftNearestNeighbours,
    Victim,
)
from tests.victims.problems import CLASSES, stripes

VICTIMS = {
    "logistic regression": LogisticRegressionVictim(),
    "linear svm": LinearSVMVictim(),
    "rbf svm": RBFSVMVictim(),
    "decision tree": DecisionTreeVictim(),
    "random forest": RandomForestVictim(trees=10),
    "nearest neighbours": NearestNeighboursVictim(neighbours=3),
    "gradient boosting": GradientBoostingVictim(rounds=5),
}


@pytest.fixture(scope="module", params=VICTIMS)
def victim(request: pytest.FixtureRequest) -> Victim:
    return VICTIMS[request.param].fit(*stripes())


def test_the_largest_logit_is_the_prediction_of_the_estimator(victim):
    x, y = stripes(60, seed=1)
    logits = victim(x)
    assert logits.shape == (60, CLASSES)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert logits.argmax(dim=1).tolist() == victim.fitted.predict(x.flatten(1).double().numpy()).tolist()
    assert (logits.argmax(dim=1) == y).double().mean() > 0.6


def test_an_image_gets_the_same_logits_in_every_batch(victim):
    x, _ = stripes(12, seed=2)
    alone = torch.cat([victim(each[None]) for each in x])
    torch.testing.assert_close(victim(x), alone)


def test_a_gradient_attack_is_told_that_there_is_no_gradient(victim):
    x, y = stripes(6)
    with pytest.raises(InputError, match="no gradient: attack its twin"):
        FGSM(eps=0.1)(victim, x, y)


def test_an_attack_by_scores_takes_a_victim_as_it_is(victim):
    x, y = stripes(6, seed=3)
    result = Square(eps=0.5, queries=20).run(victim, x, y)
    assert torch.equal(result.success, victim(result.images).argmax(dim=1) != y)


@pytest.mark.parametrize("name", ["logistic regression", "linear svm"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_twin_of_a_linear_victim_has_its_logits_and_gradients(name, classes):
    x, y = stripes(60)
    chosen = y < classes
    victim = VICTIMS[name].fit(x[chosen], y[chosen])
    twin = victim.twin()
    torch.testing.assert_close(twin(x), victim(x), atol=1e-4, rtol=1e-4)
    found = PGD(eps=0.3, steps=5).run(twin, x[chosen], y[chosen])
    assert found.success.double().mean() > 0.8
    assert torch.equal(found.success, victim(found.images).argmax(dim=1) != y[chosen])
    VICTIMS[name].fit(x, y)


def test_a_cold_soft_neighbour_agrees_with_the_nearest_one():
    x, y = stripes()
    victim = NearestNeighboursVictim(neighbours=1, temperature=1e-3).fit(x, y)
    others = stripes(60, seed=4)[0]
    assert torch.equal(victim.twin()(others).argmax(dim=1), victim(others).argmax(dim=1))


def test_soft_neighbours_are_the_shares_of_the_equation():
    images, label = stripes(9)
    x = stripes(4, seed=5)[0]
    weights = (-(x.flatten(1)[:, None] - images.flatten(1)).square().sum(dim=2) / 0.7).exp()
    shares = torch.stack([weights[:, label == each].sum(dim=1) for each in range(3)], dim=1) / weights.sum(1, True)
    torch.testing.assert_close(SoftNearestNeighbours(images, label, 0.7)(x).exp(), shares)


def test_a_soft_neighbour_far_from_everything_still_has_a_gradient():
    images, label = stripes(9)
    x = (1 - images).requires_grad_(True)
    soft = SoftNearestNeighbours(images, label, temperature=1e-2)
    (grad,) = torch.autograd.grad(soft(x).gather(1, label[:, None]).sum(), x)
    assert grad.isfinite().all()


def test_a_technique_without_a_twin_says_what_to_do():
    with pytest.raises(InputError, match="no differentiable twin; attack a substitute"):
        DecisionTreeVictim().fit(*stripes()).twin()


def test_a_class_that_was_not_seen_is_never_predicted():
    x, y = stripes(60)
    victim = LogisticRegressionVictim().fit(x[y != 1], y[y != 1])
    assert victim(x).shape == (60, 3)
    assert not (victim(x).argmax(dim=1) == 1).any()
    assert not (victim.twin()(x).argmax(dim=1) == 1).any()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.rand(4, 9),
            torch.arange(4),
            r"must be a float tensor N x C x H x W, got torch.float32 of shape \(4, 9\)",
        ),
        (torch.rand(4, 1, 3, 3), torch.arange(3), "N integer labels"),
        (torch.rand(4, 1, 3, 3), torch.rand(4), "N integer labels"),
        (255 * torch.ones(4, 1, 3, 3), torch.arange(4), "divide uint8 images by 255"),
        (torch.rand(4, 1, 3, 3), torch.ones(4).long(), "at least two classes"),
    ],
)
def test_a_mistake_in_the_training_set_is_named(images, labels, message):
    with pytest.raises(InputError, match=message):
        DecisionTreeVictim().fit(images, labels)


def test_a_victim_that_has_not_learnt_says_so():
    with pytest.raises(InputError, match="call fit"):
        DecisionTreeVictim()(torch.rand(1, 1, 2, 2))


def test_the_majority_of_experts_wins_and_the_lowest_class_among_equals():
    said = [torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([1, 1]), torch.tensor([0, 0])]
    ensemble = EnsembleVictim([lambda x, label=label: label for label in said], num_classes=3)
    logits = ensemble(torch.rand(2, 1, 2, 2))
    assert logits.argmax(dim=1).tolist() == [0, 2]
    torch.testing.assert_close(logits.exp(), torch.tensor([[0.5, 0.5, 0], [0.25, 0.25, 0.5]]))


def test_an_expert_outside_the_classes_is_refused():
    with pytest.raises(InputError, match="expert 1"):
        EnsembleVictim([lambda x: torch.tensor([0]), lambda x: torch.tensor([5])], 3)(torch.rand(1, 1, 2, 2))
