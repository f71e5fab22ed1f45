"""Problems for attacks that look for the nearest success, with known answers, and laws to ask of them."""

import torch
from torch import Tensor, nn

from lightning_adv.attacks import Norm, perturbation_norms

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
