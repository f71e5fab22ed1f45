import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import FGSM, PGD, Attack, Goal, Noise
from lightning_adv.errors import InputError
from lightning_adv.objectives import AdversarialTraining, CrossEntropy

from .problems import batch, normalised_net, smooth_net

CLEAN_START = PGD(eps=0.1, steps=3, start="clean")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_the_crafted_images(smoothing):
    model, (x, y) = smooth_net(), batch()
    loss, logits = AdversarialTraining(CLEAN_START, label_smoothing=smoothing)(model, x, y)
    expected = model(CLEAN_START.craft(model, x, y))
    log_p = expected.log_softmax(dim=1)
    by_hand = -((1 - smoothing) * log_p[range(8), y] + smoothing * log_p.mean(dim=1)).mean()
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(logits, expected.detach())
    assert loss.requires_grad
    assert not logits.requires_grad


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
def test_the_clean_weight_mixes_the_two_losses(weight):
    model, (x, y) = smooth_net(), batch()
    loss, logits = AdversarialTraining(CLEAN_START, clean_weight=weight)(model, x, y)
    x_adv = CLEAN_START.craft(model, x, y)
    by_hand = weight * F.cross_entropy(model(x), y) + (1 - weight) * F.cross_entropy(model(x_adv), y)
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(logits, model(x_adv).detach())


def test_its_gradient_is_that_of_training_on_the_crafted_images():
    model, (x, y) = smooth_net(), batch()
    AdversarialTraining(CLEAN_START)(model, x, y)[0].backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    F.cross_entropy(model(CLEAN_START.craft(model, x, y)), y).backward()
    for mine, expected in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, expected.grad)


class Records(Attack):
    """Keeps the budget that each call had."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps, self.seen = eps, []

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        self.seen.append(self.eps)
        return goal.x


def test_eps_grows_linearly_over_the_warm_up():
    attack = Records(eps=0.3)
    objective = AdversarialTraining(attack, warmup_epochs=4)
    for epoch in (0, 1, 2, 3.5, 4, 9):
        objective.at_epoch(epoch)
        objective(smooth_net(), *batch())
    assert attack.seen == pytest.approx([0, 0.075, 0.15, 0.2625, 0.3, 0.3])
    assert attack.eps == 0.3


def test_at_the_start_of_the_warm_up_it_trains_on_clean_images():
    model, (x, y) = smooth_net(), batch()
    objective = AdversarialTraining(PGD(eps=0.3), warmup_epochs=2)
    objective.at_epoch(0)
    assert torch.equal(objective(model, x, y)[0], CrossEntropy()(model, x, y)[0])


def test_without_a_warm_up_the_first_epoch_has_the_whole_budget():
    attack = Records(eps=0.3)
    objective = AdversarialTraining(attack)
    objective(smooth_net(), *batch())
    objective.at_epoch(0)
    objective(smooth_net(), *batch())
    assert attack.seen == [0.3, 0.3]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_attack_uses_the_statistics_of_its_mode(mode):
    model, (x, y) = normalised_net(), batch()
    wanted = normalised_net().train(mode == "train")
    moved = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(F.cross_entropy(wanted(moved), y, reduction="sum"), moved)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    AdversarialTraining(FGSM(eps=0.01), attack_mode=mode)(model, x, y)
    torch.testing.assert_close(seen[-1], (x + 0.01 * grad.sign()).clamp(0, 1))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_batch_statistics_are_recorded_by_the_training_forward_alone(mode):
    model, (x, y) = normalised_net(), batch()
    AdversarialTraining(CLEAN_START, attack_mode=mode)(model, x, y)
    alone = normalised_net()
    alone(CLEAN_START.craft(normalised_net(), x, y, mode=mode))
    assert model.training
    assert model[1].num_batches_tracked == 1
    torch.testing.assert_close(model[1].running_mean, alone[1].running_mean)
    torch.testing.assert_close(model[1].running_var, alone[1].running_var)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_step_with_dropout_repeats_itself_from_the_same_seed_and_not_from_another(mode):
    x, y = batch()

    def step(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return AdversarialTraining(PGD(eps=0.1, steps=3), attack_mode=mode)(normalised_net(0.5), x, y)[0]

    assert torch.equal(step(1), step(1))
    assert not torch.equal(step(1), step(2))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_two_steps_in_a_row_start_from_different_noise(mode):
    """A net without dropout draws no random numbers of its own: the noise alone must move the generator on."""
    model, (x, y) = normalised_net(), batch()
    objective = AdversarialTraining(PGD(eps=0.1, step_size=0.0, steps=1), attack_mode=mode)
    assert not torch.equal(objective(model, x, y)[0], objective(model, x, y)[0])


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_all_weights_get_finite_gradients_under_autocast(clean_weight):
    model, (x, y) = normalised_net(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = AdversarialTraining(PGD(eps=0.1, steps=2), clean_weight=clean_weight)(model, x, y)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model[5].parameters())
    assert model[0].weight.grad.any()


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_trains_a_net_whose_weights_and_images_are_bfloat16(clean_weight):
    model, (x, y) = smooth_net().bfloat16(), batch()
    loss, logits = AdversarialTraining(PGD(eps=0.1, steps=2), clean_weight=clean_weight)(model, x.bfloat16(), y)
    loss.backward()
    assert (loss.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert all(p.grad.any() for p in model.parameters())


def test_standard_training_is_the_cross_entropy_of_clean_images():
    model, (x, y) = smooth_net(), batch()
    loss, logits = CrossEntropy(label_smoothing=0.2)(model, x, y)
    torch.testing.assert_close(loss, F.cross_entropy(model(x), y, label_smoothing=0.2))
    assert torch.equal(logits, model(x).detach())


def test_an_objective_says_which_images_its_logits_judge():
    assert (CrossEntropy.judges, AdversarialTraining.judges) == ("clean", "robust")


def test_by_default_the_attack_is_that_of_madry_on_cifar10():
    assert repr(AdversarialTraining().attack).startswith("PGD(eps=8/255, step_size=2/255, steps=10, norm=Linf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clean_weight": 1.5}, r"clean_weight must lie in \[0, 1\], got 1.5"),
        ({"warmup_epochs": -1}, "warmup_epochs must not be negative, got -1"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
        ({"attack_mode": "trian"}, "attack_mode must be one of eval, train, got 'trian'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        AdversarialTraining(**arguments)
