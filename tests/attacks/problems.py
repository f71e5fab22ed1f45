"""Small problems for attacks, and the one list of attacks that every law is asked of."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lightning_adv.attacks import (
    APGD,
    BIM,
    DDN,
    EOT,
    FAB,
    FGSM,
    JSMA,
    MIFGSM,
    NIFGSM,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    DeviceNoise,
    Goal,
    HyperplaneAttack,
    LeastLikely,
    Noise,
    Norm,
    SearchLow,
    Square,
    SubstituteAttack,
    Targeted,
    WorstOf,
    perturbation_norms,
)
from lightning_adv.victims import DecisionTreeAttack, DecisionTreeVictim

EPS: dict[Norm, float] = {"Linf": 0.03, "L2": 0.2, "L1": 0.8}
"""Budgets at which about half of the samples of ``tilted_problem`` fall, some early and some late."""

NEAR: dict[Norm, float] = {"Linf": 0.02, "L2": 0.2, "L1": 0.7}
"""Distances within which a minimal-norm attack finds about half of them."""


@dataclass(frozen=True)
class Record:
    """An attack, and what laws may presume of it beyond what it says of itself.

    Args:
        attack: at settings at which some samples of ``tilted_problem`` fall.
        climbs: raises the loss of every sample, however far it gets.
        stays: leaves an image as it was where it finds nothing.
        random: another seed leads elsewhere.
        drops: finished samples leave the batch before the end of an evaluation.
        aims: takes an explicit target.
        asks: asks the model for what it crafts.
        any_model: attacks whatever maps images to logits.
        rounding: by which pixels may differ from batch to batch.
    """

    attack: Attack
    climbs: bool = True
    stays: bool = False
    random: bool = False
    drops: bool = True
    aims: bool = True
    asks: bool = True
    any_model: bool = True
    rounding: float = 1e-6

    @property
    def is_judged(self) -> bool:
        """Whether the attack has looked at all its images: calling it is running it."""
        return self.attack.judges_itself or self.attack.shortest is not None

    def problem(self) -> tuple[nn.Module, Tensor, Tensor]:
        """A model that is right about all images, and of which some fall."""
        model, x, y = tilted_problem()
        return (model, x, y) if self.any_model else (DecisionTreeVictim().fit(x, y), x, y)


def shortened(suite: AutoAttack, length: int) -> AutoAttack:
    """With so many steps and queries in each of its attacks."""
    for attack in suite.attacks.values():
        held = attack.attack if isinstance(attack, EOT) else attack
        held.steps = held.queries = length
    return suite


def _records() -> Iterator[tuple[str, Record]]:
    for norm, eps in EPS.items():
        short = {"norm": norm, "steps": 7}
        yield f"fgsm-{norm}", Record(FGSM(eps, norm), drops=False)
        yield f"bim-{norm}", Record(BIM(eps, **short))
        for start in ("uniform", "clean", "gaussian"):
            yield f"pgd-{norm}-{start}", Record(PGD(eps, start=start, **short), random=start != "clean")
        yield f"pgd-{norm}-restarts", Record(PGD(eps, restarts=3, **short), random=True)
        yield f"mifgsm-{norm}", Record(MIFGSM(eps, **short))
        yield f"nifgsm-{norm}", Record(NIFGSM(eps, **short), drops=False)  # looks ahead, not at what it makes
        yield f"least-likely-{norm}", Record(LeastLikely(1.5 * eps, eps / 3, **short), climbs=False, aims=False)
        for name, options in {"ce": {}, "dlr": {"loss": "dlr"}, "targets": {"loss": "dlr", "targets": 2}}.items():
            attack = APGD(eps, steps=6, norm=norm, restarts=2, **options)
            yield f"apgd-{norm}-{name}", Record(attack, climbs=False, random=name != "ce", rounding=1e-5)
        search = Square(2 * eps, queries=12, norm=norm, restarts=2)
        yield f"square-{norm}", Record(search, climbs=False, random=True)
        minimal = {"climbs": False, "stays": True, "rounding": 1e-5}
        walk = {"steps": 4, "norm": norm, "restarts": 2}
        yield f"fab-{norm}", Record(FAB(NEAR[norm], **walk), **minimal)
        yield f"fab-{norm}-targets", Record(FAB(NEAR[norm], targets=2, **walk | {"steps": 2}), **minimal)
        yield f"fab-{norm}-free", Record(FAB(steps=3, norm=norm), drops=False, **minimal)
    descent = {"steps": 10, "lr": 0.05, "initial_const": 10.0, "binary_search_steps": 2}
    for norm, options in (("L2", descent), ("Linf", {"steps": 10, "lr": 0.02, "initial_const": 1.0})):
        yield f"deepfool-{norm}", Record(DeepFool(norm=norm, eps=NEAR[norm]), **minimal)
        yield f"deepfool-{norm}-free", Record(DeepFool(norm=norm), **minimal)
        yield f"carlini-wagner-{norm}", Record(CarliniWagner(norm=norm, eps=NEAR[norm], **options), **minimal)
    yield "ddn", Record(DDN(NEAR["L2"], steps=20, radius=0.5), **minimal)
    yield "ddn-free", Record(DDN(steps=10, radius=0.5), drops=False, **minimal)
    yield "carlini-wagner-free", Record(CarliniWagner(**descent), **minimal)
    coarse = {"steps": 5, "lr": 0.2, "initial_const": 1e5}
    yield "carlini-wagner-Linf-free", Record(CarliniWagner(norm="Linf", **coarse), drops=False, **minimal)
    yield "carlini-wagner-L0", Record(CarliniWagner(norm="L0", **coarse), **minimal)
    for pixels in (1, 2):
        yield f"jsma-{pixels}", Record(JSMA(gamma=0.2, pixels=pixels), climbs=False, stays=True, rounding=1e-5)
    for selector in ("least_likely", "random", "next", "all"):
        attack = Targeted(PGD(0.05, steps=6, restarts=2), selector)
        yield f"targeted-{selector}", Record(attack, climbs=False, random=True, aims=False)
    yield "eot", Record(EOT(PGD(EPS["Linf"], steps=7), samples=2))
    l2 = PGD(0.12, steps=7, norm="L2", restarts=2, seed=3)
    three = WorstOf({"fgsm": FGSM(0.015), "l2": l2, "square": Square(0.04, queries=12)})
    yield "worst-of", Record(three, climbs=False)
    pair = WorstOf([FGSM(0.015), APGD(0.06, steps=6)])
    yield "worst-of-targeted", Record(Targeted(pair, "next"), climbs=False, aims=False)
    yield "worst-of-eot", Record(EOT(pair, samples=2), rounding=1e-5)
    for version in ("standard", "rand"):
        suite = shortened(AutoAttack(0.03, version=version), 6)
        yield f"autoattack-{version}", Record(suite, climbs=False, aims=False, rounding=1e-5)
    low = SearchLow(WorstOf([PGD(0.03, steps=6), Square(0.04, queries=12)]))
    yield "search-low", Record(low, climbs=False, rounding=1e-5)
    yield "hyperplane", Record(HyperplaneAttack(EPS["L2"]), drops=False)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    learnt = SubstituteAttack(PGD(0.1, steps=4), linear, rounds=1, epochs=20, lr=0.01)
    model, _, _ = tilted_problem()
    learnt.fit(lambda x: model(x.double()), images(24, seed=5), 3)
    yield "substitute", Record(learnt, climbs=False, drops=False, asks=False, rounding=1e-5)
    yield "decision-tree", Record(DecisionTreeAttack(), climbs=False, stays=True, drops=False, any_model=False)


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
        torch.default_generator.manual_seed(seed)  # a thousandth of the time of torch.manual_seed
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
            torch.default_generator.manual_seed(0)
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


def excess(attack: Attack, x: Tensor, x_adv: Tensor) -> Tensor:
    """[N] how far a sample lies outside its ball (negative: inside), of an ensemble outside of all its balls."""
    if attack.members:
        return torch.stack([excess(member, x, x_adv) for member in attack.members.values()]).amin(dim=0)
    if attack.eps is None:
        return x.new_full((len(x),), -torch.inf, dtype=torch.double)
    return perturbation_norms(x.double(), x_adv.double())[attack.norm] - attack.eps


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


RECORDS = dict(_records())
"""Every attack and wrapper under every norm: add a later one here, and all laws are asked of it."""
