"""Small problems for attacks, and the one list of attacks that every law is asked of."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lightning_adv.attacks import (
    BIM,
    FGSM,
    NIFGSM,
    PGD,
    Attack,
    DeviceNoise,
    Goal,
    HyperplaneAttack,
    Noise,
    Norm,
    perturbation_norms,
)

EPS: dict[Norm, float] = {"Linf": 0.03, "L2": 0.2, "L1": 0.8}
"""Budgets at which about half of the samples of ``tilted_problem`` fall, some early and some late."""

ATTACKS: dict[str, Attack] = {}
"""Every attack under every norm and start: append a later attack here and all laws are asked of it."""
for _norm, _eps in EPS.items():
    ATTACKS[f"fgsm-{_norm}"] = FGSM(eps=_eps, norm=_norm)
    ATTACKS[f"bim-{_norm}"] = BIM(eps=_eps, steps=7, norm=_norm)
    for _start in ("uniform", "clean", "gaussian"):
        ATTACKS[f"pgd-{_norm}-{_start}"] = PGD(eps=_eps, steps=7, norm=_norm, start=_start)
    ATTACKS[f"nifgsm-{_norm}"] = NIFGSM(eps=_eps, steps=7, norm=_norm)
    ATTACKS[f"pgd-{_norm}-restarts"] = PGD(eps=_eps, steps=7, norm=_norm, restarts=3)
ATTACKS["hyperplane"] = HyperplaneAttack(eps=EPS["L2"])

RANDOM = sorted(name for name in ATTACKS if name.endswith(("uniform", "gaussian", "restarts")))

EntryPoint = Callable[[Attack, Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]

ENTRY_POINTS: dict[str, EntryPoint] = {
    "call": lambda attack, model, x, y: attack(model, x, y),
    "run": lambda attack, model, x, y: attack.run(model, x, y).images,
    "craft-eval": lambda attack, model, x, y: attack.craft(model, x, y, noise=own_noise(), mode="eval"),
    "craft-train": lambda attack, model, x, y: attack.craft(model, x, y, noise=own_noise(), mode="train"),
}
"""The ways to call an attack; ``craft`` with noise of its own, because by default it is seeded by the global RNG."""


def own_noise() -> DeviceNoise:
    return DeviceNoise(torch.Generator().manual_seed(7))


def images(count: int = 6, *, channels: int = 2, side: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def corner_images(count: int = 6) -> Tensor:
    """Every pixel is 0 or 1, so that half of all directions leave the box."""
    return images(count).round()


def smooth_cnn(seed: int = 0) -> nn.Sequential:
    """Three classes, no kinks and no randomness, in float64: its answers hardly depend on the batch they come in."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(4 * 6 * 6, 3),
        ).double()  # fmt: skip


def tilted_problem(count: int = 12) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A classifier that is right about all images, with margins from narrow to unreachable."""
    model, x = smooth_cnn(), images(count)
    with torch.no_grad():
        logits = model(x.double())
        model[-1].bias -= logits.mean(dim=0)  # all classes occur
        y = model(x.double()).argmax(dim=1)
    return model, x, y


class Moody(nn.Module):
    """All that a careless attack disturbs: dropout, BatchNorm in both modes, frozen weights, old gradients."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
            )  # fmt: skip
            self.head = nn.Linear(4 * 6 * 6, 3)
        self.train()
        self.features[4].eval()  # a frozen BatchNorm among training modules
        self.features[0].weight.requires_grad_(False)
        self.head.weight.grad = torch.full_like(self.head.weight, 3.0)
        self.forwards, self.fails_at = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        if self.forwards == self.fails_at:
            raise RuntimeError("the model broke down")
        return self.head(self.features(x).flatten(1))


def traces(model: nn.Module) -> dict[str, object]:
    """All that an attack must leave alone, by name, copied."""
    found: dict[str, object] = {"random": random.getstate(), "numpy": np.random.get_state()[1].tolist()}  # noqa: NPY002
    found["torch"] = torch.get_rng_state().tolist()
    for name, module in model.named_modules():
        found[f"mode of {name}"] = module.training
    for name, parameter in model.named_parameters():
        found[f"requires_grad of {name}"] = parameter.requires_grad
        found[f"identity of the gradient of {name}"] = id(parameter.grad)
        found[f"gradient of {name}"] = None if parameter.grad is None else parameter.grad.tolist()
        found[f"value of {name}"] = parameter.tolist()
    for name, buffer in model.named_buffers():
        found[f"buffer {name}"] = (id(buffer), buffer.tolist())
    return found


def excess(attack: Attack, x: Tensor, x_adv: Tensor) -> float:
    """How far the worst sample lies outside its ball (negative: inside)."""
    return (perturbation_norms(x.double(), x_adv.double())[attack.norm] - attack.eps).max().item()


def binary_linear_problem(
    *, side: int = 6, count: int = 4, margin: float = 0.3
) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Two classes, images around mid-grey where the box is far away, all classified rightly by ``margin``."""
    generator = torch.Generator().manual_seed(3)
    x = 0.4 + 0.2 * torch.rand(count, 2, side, side, generator=generator)
    y = torch.arange(count) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(model[1].weight.shape, generator=generator))
        # Mid-grey is undecided; weights small enough that no float32 softmax is saturated.
        model[1].weight *= 0.3
        model[1].bias.copy_(-0.5 * model[1].weight.sum(dim=1))
        lead = weight_difference(model) @ (x.flatten(1).double() - 0.5).T  # class 1 over class 0
        # Shift each image along one pixel pattern so that its label leads by the margin.
        pattern = weight_difference(model) / weight_difference(model).square().sum()
        wish = margin * (2.0 * y - 1.0)
        x = (x.flatten(1).double() + (wish - lead)[:, None] * pattern).view_as(x).float()
    return model, x, y


def weight_difference(model: nn.Sequential) -> Tensor:
    """[D] gradient of logit 1 minus logit 0 of a binary linear model."""
    return (model[1].weight[1] - model[1].weight[0]).detach()


def dual_norm(vector: Tensor, norm: Norm) -> float:
    order = {"Linf": 1, "L2": 2, "L1": float("inf")}[norm]
    return torch.linalg.vector_norm(vector, ord=order).item()


class Constant(Attack):
    """Returns what it is told to: an attack of someone else."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        return self.image
