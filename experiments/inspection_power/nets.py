"""The networks: of digits, small, many of each kind, each trained on its own choice of images."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from experiments.networks import Images, network
from lightning_adv.backdoors import Blend, Patch, PoisonPlan, Trigger
from lightning_adv.models import create_model

__all__ = ["CLASSES", "DEFENDER", "KINDS", "Net", "Poison", "own_images", "plain"]

CLASSES = 10

DEFENDER = 2000
"""Test images that the defender has: half to search with, half held out; reference networks are trained on all."""

TRAINED_ON, EPOCHS = 10_000, 2
"""Images of the owner of a network, a choice of its own, and how often it sees them."""


@dataclass(frozen=True)
class Poison:
    """A trigger, and the share of the training images that carry it."""

    trigger: Trigger
    rate: float


KINDS: Mapping[str, Poison | None] = {
    "clean": None,
    "badnets": Poison(Patch(size=3), 0.05),
    "blend": Poison(Blend(alpha=0.2), 0.1),
    "reference": None,
}
"""By name; the last is what a defender trains to compare with."""


@dataclass(frozen=True)
class Net:
    """One network.

    Args:
        kind: of ``KINDS``.
        number: seed of its weights, its images and their order; the class that its backdoor leads to is the last digit.
    """

    kind: str
    number: int

    @property
    def name(self) -> str:
        """Of its records."""
        return f"{self.kind} {self.number}"

    @property
    def poison(self) -> Poison | None:
        """None for a clean one."""
        return KINDS[self.kind]

    @property
    def target(self) -> int:
        """Of its backdoor, if it has one."""
        return self.number % CLASSES

    def trained(self, train: Images, defender: Images) -> nn.Module:
        """The network, trained on its owner's choice of the images."""
        x, y = defender if self.kind == "reference" else own_images(self, train)
        epochs = EPOCHS * (TRAINED_ON // len(x))  # as many steps with fewer images
        if self.poison:
            plan = PoisonPlan.draw(y, torch.arange(len(y)), CLASSES, self.target, self.poison.rate, seed=self.number)
            x[plan.poisoned], y[plan.poisoned] = self.poison.trigger(x[plan.poisoned]), self.target
        return network(x, y, epochs, seed=self.number, make=plain)


def own_images(net: Net, train: Images) -> Images:
    """Copies of the images that the owner of a network has."""
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(net.number))[:TRAINED_ON]
    return train[0][order], train[1][order]


def plain() -> nn.Module:
    """The network of all kinds, without training."""
    size = {"num_classes": CLASSES, "in_channels": 1, "image_size": (28, 28)}
    return create_model("mnist_cnn", **size, backbone_options={"width": 4, "hidden": 32})
