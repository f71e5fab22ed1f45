"""Problems for attacks that look for the nearest success, with known answers, and laws to ask of them."""

import torch
from torch import Tensor, nn

from lightning_adv.attacks import Attack, Norm, perturbation_norms

from .problems import ENTRY_POINTS, Moody, images, tilted_problem, traces

DUAL: dict[Norm, float] = {"Linf": 1, "L2": 2, "L1": float("inf")}


def linear_problem(count: int = 6, *, classes: int = 5, side: int = 6) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A linear classifier, sure about all images, whose boundaries are nearer than the ends of the box."""
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(count, 2, side, side, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, classes)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(model[1].weight.shape, generator=generator))
        model[1].bias.copy_(-0.5 * model[1].weight.sum(dim=1))
        y = model(x.double()).argmax(dim=1)
        toward = (model[1].weight[y] - model[1].weight.mean(dim=0)).view_as(x)
        return model, (x + 0.1 * toward / toward.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)).float(), y


def planes(model: nn.Sequential, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K] lead of the label over each class (infinite over itself), [N, K, D] gradient of minus the lead."""
    weight = model[1].weight.detach()
    with torch.no_grad():
        logits = model(x.double())
    lead = logits.gather(1, y[:, None]) - logits
    return lead.scatter(1, y[:, None], torch.inf), weight[None] - weight[y][:, None]


def minimal_distance(model: nn.Sequential, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """[N] |margin| / |w|_dual to the nearest of the linear boundaries, the box being far away."""
    lead, slope = planes(model, x, y)
    return (lead / torch.linalg.vector_norm(slope, ord=DUAL[norm], dim=2)).amin(dim=1)


def distance(x: Tensor, x_adv: Tensor, norm: Norm) -> Tensor:
    return perturbation_norms(x.double(), x_adv.double())[norm].double()


def changed(x: Tensor, x_adv: Tensor) -> Tensor:
    """[N] pixels that differ."""
    return (x != x_adv).flatten(1).sum(dim=1)


def predicted(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x.to(next(model.parameters()).dtype)).argmax(dim=1)


def assert_a_batch_of_n_is_n_batches_of_one(attack: Attack) -> None:
    model, x, y = tilted_problem(8)
    index = torch.arange(8) * 17 + 3
    whole = attack.run(model, x, y, index=index)
    singles = [attack.run(model, x[i : i + 1], y[i : i + 1], index=index[i : i + 1]) for i in range(8)]
    for field in ("success", "restart", "zero_gradient"):
        assert torch.equal(getattr(whole, field), torch.cat([getattr(one, field) for one in singles])), field
    torch.testing.assert_close(whole.images, torch.cat([one.images for one in singles]), rtol=0, atol=1e-5)
    assert torch.equal(whole.success, predicted(model, whole.images) != y)


def assert_leaves_no_trace_and_stays_in_the_box(attack: Attack) -> None:
    for entry in ENTRY_POINTS.values():
        model, x, y = Moody(), images(), torch.tensor([0, 1, 2, 0, 1, 2])
        given, before = x.clone(), traces(model)
        x_adv = entry(attack, model, x, y)
        assert traces(model) == before
        assert torch.equal(x, given)
        assert x_adv.shape == x.shape
        assert x_adv.dtype == torch.float32
        assert 0 <= x_adv.min() <= x_adv.max() <= 1


def assert_wrong_images_are_left_alone(attack: Attack) -> None:
    model, x, y = tilted_problem(6)
    result = attack.run(model, x, (y + 1) % 3)
    assert result.success.all()
    assert torch.equal(result.images, x)


def assert_a_budget_decides_success_and_is_kept(free: Attack, bounded: Attack) -> None:
    """Of the samples that the free search fools, those nearer than eps succeed; the others stay where they were."""
    model, x, y = tilted_problem(8)
    near = distance(x, free.run(model, x, y).images, bounded.norm) <= bounded.eps
    assert 0 < near.sum() < len(x)
    result = bounded.run(model, x, y)
    assert torch.equal(result.success, near)
    assert distance(x, result.images, bounded.norm).max() <= bounded.eps + 1e-6
    assert torch.equal(result.images[~near], x[~near])
    assert torch.equal(result.logits.argmax(dim=1) != y, near)
    assert distance(x, bounded.craft(model, x, y), bounded.norm).max() <= bounded.eps + 1e-6
