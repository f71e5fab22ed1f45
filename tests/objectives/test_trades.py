import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import PGD, Goal
from lightning_adv.errors import InputError
from lightning_adv.objectives import TRADES

from .problems import batch, normalised_net, smooth_net

CLEAN_START = PGD(eps=0.1, step_size=0.02, steps=3, start="clean")


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """[N] KL(clean || adversarial) of two batches of logits, written out."""
    p, log_p, log_q = clean.softmax(dim=1), clean.log_softmax(dim=1), adversarial.log_softmax(dim=1)
    return (p * (log_p - log_q)).sum(dim=1)


def test_the_gradient_of_the_attack_is_that_of_the_divergence():
    model, (x, _) = smooth_net().double(), batch()
    prediction = model(x.double()).softmax(dim=1).detach()
    moved = (x + 0.05).clamp(0, 1)
    point = moved.double().requires_grad_(True)
    (expected,) = torch.autograd.grad(divergence(model(x.double()).detach(), model(point)).sum(), point)
    found = Goal(model, x, prediction.float()).gradient(moved)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_the_equation(beta, smoothing):
    model, (x, y) = smooth_net(), batch()
    attack = PGD(eps=0.1, step_size=0.02, steps=3, start="gaussian")
    torch.manual_seed(4)
    loss, logits = TRADES(attack, beta=beta, label_smoothing=smoothing)(model, x, y)
    torch.manual_seed(4)
    x_adv = attack.craft(model, x, model(x).softmax(dim=1).detach())
    clean = F.cross_entropy(model(x), y, label_smoothing=smoothing)
    torch.testing.assert_close(loss, clean + beta * divergence(model(x), model(x_adv)).mean())
    torch.testing.assert_close(logits, model(x).detach())


def test_both_predictions_of_the_divergence_are_trained():
    model, (x, y) = smooth_net(), batch()
    attack = PGD(eps=0.1, step_size=0.02, steps=3, start="gaussian")
    torch.manual_seed(4)
    TRADES(attack, beta=6)(model, x, y)[0].backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(4)
    x_adv = attack.craft(model, x, model(x).softmax(dim=1).detach())
    (F.cross_entropy(model(x), y) + 6 * divergence(model(x), model(x_adv)).mean()).backward()
    for mine, expected in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, expected.grad, rtol=1e-4, atol=1e-6)


def test_the_attack_raises_the_divergence():
    model, (x, _) = smooth_net(), batch()
    attack = PGD(eps=0.1, step_size=0.02, steps=10, start="gaussian")
    start = PGD(eps=0.1, step_size=0.0, steps=1, start="gaussian")
    prediction = model(x).softmax(dim=1).detach()
    with torch.no_grad():
        near, far = (divergence(model(x), model(a.craft(model, x, prediction))) for a in (start, attack))
    assert (far > 10 * near).all()


def test_clean_and_adversarial_images_are_normalised_by_their_own_batch_and_both_recorded():
    model, (x, y) = normalised_net(), batch()
    sizes: list[tuple[bool, int]] = []
    model.register_forward_pre_hook(lambda module, args: sizes.append((module.training, len(args[0]))))
    TRADES(CLEAN_START)(model, x, y)
    assert [size for training, size in sizes if training] == [8, 8]
    assert not any(training for training, _ in sizes[:-2])
    assert model.training
    assert model[1].num_batches_tracked == 2


def test_no_weight_gradient_is_lost_to_the_weight_cache_of_autocast():
    """The first forward, without gradients, must not leave low-precision weights without a graph in the cache."""
    x, y = batch()

    def gradients(autocast: bool) -> list[Tensor]:
        model = normalised_net()
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss, _ = TRADES(PGD(eps=0.1, step_size=0.02, steps=2, start="gaussian"))(model, x, y)
        loss.backward()
        assert loss.dtype == torch.float32
        return [p.grad for p in model.parameters()]

    for low, exact in zip(gradients(autocast=True), gradients(autocast=False), strict=True):
        assert low is not None
        assert low.isfinite().all()
        if exact.norm() > 1e-4:  # a bias before BatchNorm has none
            assert F.cosine_similarity(low.flatten(), exact.flatten(), dim=0) > 0.9


def test_trains_a_net_whose_weights_and_images_are_bfloat16():
    model, (x, y) = smooth_net().bfloat16(), batch()
    loss, logits = TRADES(PGD(eps=0.1, steps=2))(model, x.bfloat16(), y)
    loss.backward()
    assert (loss.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert all(p.grad.any() for p in model.parameters())


def test_by_default_the_attack_is_that_of_the_paper():
    assert repr(TRADES().attack) == "PGD(eps=0.031, step_size=0.007, steps=10, norm=Linf, start=gaussian, restarts=1)"
    assert TRADES().beta == 6
    assert TRADES.judges == "clean"


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError, match=r"beta must not be negative, got -1"):
        TRADES(beta=-1)
