"""Other distances between the clean and the attacked prediction than that of TRADES: IKL, LSE and HAT."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.attacks import EOT, PGD, WorstOf
from lightning_adv.attacks.losses import squared_error
from lightning_adv.errors import InputError
from lightning_adv.objectives import AWP, HAT, IKL, LSE, TRADES, CrossEntropy
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import trainer

from .problems import batch, smooth_net

CLEAN_START = PGD(eps=0.1, step_size=0.05, steps=2, start="clean")


class Table(nn.Module):
    """Logits that are weights: what the loss does to each prediction shows in their gradients."""

    def __init__(self, clean: Tensor, attacked: Tensor) -> None:
        super().__init__()
        self.clean, self.attacked = nn.Parameter(clean.clone()), nn.Parameter(attacked.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.attacked if bool((x == 1).all()) else self.clean


def table(count: int = 4, classes: int = 5) -> tuple[Table, Tensor, Tensor]:
    model = Table(*2 * torch.randn(2, count, classes))
    return model, torch.zeros(count, 1, 2, 2), torch.arange(count) % classes


def pairs(clean: Tensor, attacked: Tensor, weight: Tensor) -> Tensor:
    """sum_ij w_i w_j (D_ij(x) - D_ij(x_adv))^2 of each image, pair by pair."""
    total = 0.0
    for i in range(clean.shape[1]):
        for j in range(clean.shape[1]):
            gap = (clean[:, i] - clean[:, j]) - (attacked[:, i] - attacked[:, j])
            total = total + weight[:, i] * weight[:, j] * gap**2
    return total


def told(objective: IKL, weight: Tensor) -> IKL:
    objective.load_state_dict({"weights": weight, "seen": torch.zeros_like(weight), "epoch": torch.tensor(0)})
    return objective


@pytest.mark.parametrize("even", [True, False])
def test_ikl_is_the_papers_sum_over_pairs_of_classes(even):
    model, x, y = table()
    objective, weight = IKL(alpha=3.0, beta=20.0), torch.full((5, 5), 0.2)
    if not even:
        weight = torch.rand(5, 5).softmax(dim=1)
        told(objective, weight)
    loss, logits = objective.loss(model, x, x + 1, y)
    cross = -(model.clean.softmax(1).detach() * model.attacked.log_softmax(1)).sum(1)
    wanted = (
        F.cross_entropy(model.clean, y) + (3 * cross + 20 / 4 * pairs(model.clean, model.attacked, weight[y])).mean()
    )
    torch.testing.assert_close(loss, wanted)
    assert torch.equal(logits, model.clean.detach())
    weights = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, weights), torch.autograd.grad(wanted, weights))


def test_weighted_by_the_images_own_prediction_its_two_halves_are_the_two_gradients_of_the_divergence():
    model, x, _ = table(count=1)
    y = torch.tensor([2])
    own = model.clean.detach().softmax(dim=1)
    log_p, log_q = model.clean.log_softmax(1), model.attacked.log_softmax(1)
    to_clean, to_attacked = torch.autograd.grad((log_p.exp() * (log_p - log_q)).sum(), list(model.parameters()))

    def gradients(alpha: float, beta: float) -> tuple[Tensor, ...]:
        objective = told(IKL(alpha=alpha, beta=beta), own.expand(5, 5))
        extra = objective.loss(model, x, x + 1, y)[0] - F.cross_entropy(model.clean, y)
        return torch.autograd.grad(extra, list(model.parameters()), allow_unused=True, materialize_grads=True)

    torch.testing.assert_close(gradients(1, 0), (torch.zeros(1, 5), to_attacked))
    torch.testing.assert_close(gradients(0, 1), (to_clean, -to_clean))


def test_the_next_epoch_is_weighted_by_the_mean_predictions_of_each_class_in_this_one():
    model, x, y = table(count=4, classes=5)
    y = torch.tensor([0, 0, 3, 3])
    objective = IKL(temperature=4.0)
    for epoch in (0.0, 0.5):
        objective.at_epoch(epoch)
        objective.loss(model, x, x + 1, y)
    assert torch.equal(objective.state_dict()["weights"], torch.full((5, 5), 0.2))
    resumed = IKL(temperature=4.0)
    resumed.load_state_dict(objective.state_dict())
    for each in (objective, resumed):
        each.at_epoch(1.0)
        weights = each.state_dict()["weights"]
        p = (model.clean.detach() / 4).softmax(dim=1)
        torch.testing.assert_close(weights[[0, 3]], torch.stack([p[:2].mean(0), p[2:].mean(0)]))
        torch.testing.assert_close(weights[[1, 2, 4]], torch.full((3, 5), 0.2))
        assert not each.state_dict()["seen"].any()


def test_ikl_without_its_weights_is_the_cross_entropy():
    model, (x, y) = smooth_net(), batch()
    loss = IKL(CLEAN_START, alpha=0.0, beta=0.0)(model, x, y)[0]
    torch.testing.assert_close(loss, CrossEntropy()(model, x, y)[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_lse_is_the_papers_squared_errors_of_probabilities(smoothing, clip):
    model, x, y = table()
    loss, _ = LSE(beta=3.0, clip=clip, label_smoothing=smoothing).loss(model, x, x + 1, y)
    p, q = model.clean.softmax(1), model.attacked.softmax(1)
    truth = (1 - smoothing) * F.one_hot(y, 5) + smoothing / 5
    moved = torch.clamp(((q - p) ** 2).sum(1) - clip, min=0)
    assert clip == 0 or 0 < int((moved == 0).sum()) < len(moved)
    wanted = (((p - truth) ** 2).sum(1) + 3 * moved).mean()
    torch.testing.assert_close(loss, wanted)
    weights = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, weights), torch.autograd.grad(wanted, weights))


@pytest.mark.parametrize(
    "wrap", [lambda attack: attack, lambda attack: EOT(attack, 1), lambda attack: WorstOf([attack])]
)
def test_the_attack_of_lse_raises_the_squared_distance_from_the_clean_prediction(wrap):
    model, (x, y) = smooth_net(), batch()
    one_step = PGD(eps=0.02, step_size=0.02, steps=1, start="gaussian")
    torch.manual_seed(2)
    crafted = LSE(wrap(one_step)).craft(model, x, y)
    torch.manual_seed(2)
    start = PGD(eps=0.02, step_size=0.0, steps=1, start="gaussian").craft(model, x, y).requires_grad_(True)
    distance = (model(start).softmax(1) - model(x).softmax(1).detach()).square().sum()
    (grad,) = torch.autograd.grad(distance, start)
    wanted = (start + 0.02 * grad.sign()).clamp(0, 1).clamp(x - 0.02, x + 0.02)
    torch.testing.assert_close(crafted, wanted.detach())


def test_a_squared_error_falls_towards_a_target():
    logits = torch.randn(3, 4)
    y, target = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3])
    assert torch.equal(squared_error(logits, y, target), -squared_error(logits, target, None))


class OfMean(nn.Module):
    """A helper that tells the class by the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.scale = nn.Dropout(0.9), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.dropout(x.flatten(1).mean(dim=1)) * self.scale
        return -(mean[:, None] - torch.tensor([0.45, 0.5, 0.55])).abs()


def test_hat_adds_what_the_helper_says_of_the_attacked_image_for_the_image_pushed_on():
    model, helper, (x, y) = smooth_net(), OfMean().train(), batch()
    attack = PGD(eps=0.1, steps=2, start="clean")
    loss, logits = HAT(helper, attack, beta=2.5, gamma=0.5, push=3.5)(model, x, y)
    trades, _ = TRADES(attack, beta=2.5)(model, x, y)
    x_adv = attack.craft(model, x, model(x).softmax(dim=1).detach())
    said = OfMean().eval()(x_adv).argmax(dim=1)
    assert len(set(said.tolist())) > 1
    torch.testing.assert_close(loss, trades + 0.5 * F.cross_entropy(model(x + 3.5 * (x_adv - x)), said))
    assert torch.equal(logits, model(x).detach())
    loss.backward()
    assert helper.scale.grad is None
    assert helper.training


def test_without_its_helper_hat_is_trades():
    model, (x, y) = smooth_net(), batch()
    loss = HAT(OfMean(), CLEAN_START, beta=6.0, gamma=0.0)(model, x, y)[0]
    torch.testing.assert_close(loss, TRADES(CLEAN_START, beta=6.0)(model, x, y)[0])


def test_the_helper_of_hat_is_a_checkpoint_that_is_no_part_of_the_one_trained(tmp_path):
    helper = classifier(CrossEntropy())
    torch.save({"state_dict": helper.state_dict(), "hyper_parameters": dict(helper.hparams)}, tmp_path / "helper.ckpt")
    model = classifier(AWP(HAT(str(tmp_path / "helper.ckpt"), CLEAN_START)))
    runner = trainer(max_epochs=1, num_sanity_val_steps=0, limit_train_batches=2, limit_val_batches=0)
    runner.fit(model, datamodule=SmallData())
    runner.save_checkpoint(tmp_path / "trained.ckpt")
    trained = torch.load(tmp_path / "trained.ckpt", weights_only=True)["state_dict"]
    assert trained.keys() == helper.state_dict().keys()
    name = next(iter(dict(helper.named_parameters())))
    assert not torch.equal(trained[name], helper.state_dict()[name])
    opened = model.objective.objective._network.state_dict()
    for key, weight in helper.backbone.state_dict().items():
        assert torch.equal(weight, opened[key])


def test_a_helper_that_cannot_be_opened_or_knows_other_classes_is_named():
    model, (x, y) = smooth_net(), batch()
    with pytest.raises(InputError, match=r"the helper of HAT: no file nowhere\.ckpt"):
        HAT("nowhere.ckpt", CLEAN_START)(model, x, y)
    with pytest.raises(InputError, match="the helper knows 4 classes, the model 3"):
        HAT(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)), CLEAN_START)(model, x, y)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: IKL(alpha=-1), "alpha must not be negative"),
        (lambda: IKL(beta=-1), "beta must not be negative"),
        (lambda: IKL(temperature=0), "temperature above 0"),
        (lambda: LSE(clip=-0.1), "clip must not be negative"),
        (lambda: HAT(OfMean(), gamma=-1), "gamma and push must not be negative"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


def test_by_default_the_attacks_are_those_of_the_papers():
    assert repr(IKL().attack) == "PGD(eps=8/255, step_size=8/255, steps=2, norm=Linf, start=gaussian, restarts=1)"
    assert repr(LSE().attack) == "PGD(eps=8/255, step_size=2/255, steps=10, norm=Linf, start=uniform, restarts=1)"
