"""MART, fast and free adversarial training, and weight perturbation: the papers' equations."""

import pytest
import torch
import torch.nn.functional as F

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.errors import InputError
from lightning_adv.objectives import AWP, MART, TRADES, AdversarialTraining, CrossEntropy, FastAdversarialTraining
from lightning_adv.objectives import FreeAdversarialTraining as Free

from .problems import batch, normalised_net, smooth_net


def test_mart_is_the_papers_sum():
    model, (x, y) = smooth_net(), batch()
    x_adv = FGSM(eps=0.05)(model, x, y)
    loss, logits = MART(beta=5.0).loss(model, x, x_adv, y)
    clean, adv = F.softmax(model(x), 1).detach(), F.softmax(model(x_adv), 1).detach()
    total = 0.0
    for i, label in enumerate(y.tolist()):
        others = max(float(adv[i, k]) for k in range(3) if k != label)
        boosted = -torch.log(adv[i, label]) - torch.log(torch.tensor(1.0001 - others))
        divergence = sum(clean[i, k] * torch.log(clean[i, k] / adv[i, k]) for k in range(3))
        total = total + boosted + 5.0 * divergence * (1 - clean[i, label])
    assert loss.item() == pytest.approx(float(total) / len(y), rel=1e-4)
    assert torch.equal(logits, model(x_adv).detach())


def test_fast_takes_one_step_of_five_quarters_eps_inside_the_ball():
    objective = FastAdversarialTraining("8/255")
    assert (objective.attack.steps, objective.attack.start) == (1, "uniform")
    assert objective.attack.step_size == pytest.approx(10 / 255)
    model, (x, y) = smooth_net(), batch()
    assert (objective.craft(model, x, y) - x).abs().max() <= 8 / 255 + 1e-6


def test_free_moves_its_perturbation_by_the_backward_of_the_weights():
    model, (x, y) = smooth_net(), batch()
    objective = Free(0.1, replays=2)
    objective(model, x, y)[0].backward()
    objective.after_backward()
    wanted = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(F.cross_entropy(model(wanted), y), wanted)
    assert torch.equal(objective.delta, 0.1 * grad.sign())


def test_free_keeps_its_perturbation_across_batches_and_resumes():
    model, (x, y) = smooth_net(), batch()
    objective, resumed = Free(0.1), Free(0.1)
    objective(model, x, y)[0].backward()
    objective.after_backward()
    resumed.load_state_dict(objective.state_dict())
    assert torch.equal(resumed.craft(model, x[:3], y[:3]), objective.craft(model, x[:3], y[:3]))
    assert not torch.equal(resumed.craft(model, x[:3], y[:3]), x[:3])


def test_awp_takes_the_loss_at_weights_moved_by_gamma_of_their_length():
    model, (x, y) = smooth_net(), batch()
    weights = [p for p in model.parameters() if p.dim() > 1]
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), weights)
    moved = {id(w): w + 0.02 * w.norm() * g / g.norm() for w, g in zip(weights, grads, strict=True)}
    expected = smooth_net()
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
            theirs.copy_(moved.get(id(ours), ours))
    loss, _ = AWP(CrossEntropy(), gamma=0.02)(model, x, y)
    reference = F.cross_entropy(expected(x), y)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    assert loss > F.cross_entropy(model(x), y)
    got = torch.autograd.grad(loss, list(model.parameters()))
    for ours, theirs in zip(got, torch.autograd.grad(reference, list(expected.parameters())), strict=True):
        # w also enters through the length of v; the reference code treats v as fixed, and so must we.
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_awp_records_batch_statistics_once_and_restores_the_weights():
    model, (x, y) = normalised_net(), batch()
    before = {name: value.clone() for name, value in model.named_parameters()}
    AWP(AdversarialTraining(PGD(eps=0.05, steps=2)))(model, x, y)[0].backward()
    assert model[1].num_batches_tracked == 1
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_awp_waits_for_its_warm_up_and_passes_the_epoch_on():
    model, (x, y) = smooth_net(), batch()
    inner = AdversarialTraining(FGSM(eps=0.1), warmup_epochs=4)
    objective = AWP(inner, gamma=0.05, warmup_epochs=2)
    objective.at_epoch(1)
    plain, _ = objective(model, x, y)
    assert plain.item() == pytest.approx(inner(model, x, y)[0].item())
    assert inner.current_attack().eps == pytest.approx(0.025)
    objective.at_epoch(2)
    assert objective(model, x, y)[0] > inner(model, x, y)[0]


def test_awp_costs_one_full_pass_more():
    model, (x, y) = smooth_net(), batch()
    forwards = []
    model.register_forward_hook(lambda *_: forwards.append(1))
    attack = PGD(eps=0.05, steps=3)
    AdversarialTraining(attack)(model, x, y)
    plain = len(forwards)
    AWP(AdversarialTraining(attack))(model, x, y)
    assert (plain, len(forwards) - plain) == (4, 5)


def test_a_random_eps_varies_between_steps_and_stays_below_the_attacks():
    objective = AdversarialTraining(FGSM(eps=0.1), random_eps=True)
    drawn = {objective.current_attack().eps for _ in range(20)}
    assert len(drawn) == 20
    assert max(drawn) <= 0.1


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: MART(beta=-1), "beta must not be negative"),
        (lambda: Free(replays=0), "replays must be at least 1"),
        (lambda: AWP(CrossEntropy(), gamma=-0.1), "must not be negative"),
        (lambda: AWP(Free()), "does not go with FreeAdversarialTraining"),
        (lambda: FastAdversarialTraining(8), "did you mean 8/255"),
        (lambda: TRADES(warmup_epochs=-1), "warmup_epochs must not be negative"),
    ],
)
def test_refuses_what_cannot_be_meant(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()
