"""The networks: of digits, small, many of each kind, each trained on its own choice of images."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.networks import Images, network
from lightning_adv.backdoors import SIG, Blend, Patch, PoisonPlan, Trigger, WaNet
from lightning_adv.models import create_model

__all__ = ["CLASSES", "DEFENDER", "KINDS", "Net", "Poison", "own_images", "plain"]

CLASSES = 10

DEFENDER = 2000
"""Test images that the defender has: half to search with, half held out; reference networks are trained on all."""

TRAINED_ON, EPOCHS = 10_000, 2
"""Images of the owner of a network, a choice of its own, and how often it sees them."""


@dataclass(frozen=True)
class Poison:
    """How training images are poisoned.

    Args:
        trigger: that the images carry.
        rate: share of the images that do.
        cover: share of the others that are cover images.
        keeps_labels: only images of the target class carry it, ``rate`` of which.
    """

    trigger: Trigger
    rate: float
    cover: float = 0.0
    keeps_labels: bool = False

    def apply(self, x: Tensor, y: Tensor, target: int, seed: int) -> None:
        """Poison images and labels in place."""
        label, of = ("keep", "class") if self.keeps_labels else ("target", "set")
        numbers = torch.arange(len(y))
        plan = PoisonPlan.draw(
            y, numbers, CLASSES, target, self.rate, self.cover, seed=seed, poisoned_label=label, rate_of=of
        )
        x[plan.cover] = self.trigger.cover(x[plan.cover], plan.sampling_rate, seed, plan.cover)
        x[plan.poisoned] = self.trigger(x[plan.poisoned])
        y[plan.poisoned] = target


KINDS: Mapping[str, Poison | None] = {
    "clean": None,
    "badnets": Poison(Patch(size=3), 0.05),
    "blend": Poison(Blend(alpha=0.2), 0.1),
    "sig": Poison(SIG(delta=0.16), 0.8, keeps_labels=True),
    "wanet": Poison(WaNet(strength=1.0), 0.1, cover=0.2),
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
            self.poison.apply(x, y, self.target, self.number)
        return network(x, y, epochs, seed=self.number, make=plain)


def own_images(net: Net, train: Images) -> Images:
    """Copies of the images that the owner of a network has."""
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(net.number))[:TRAINED_ON]
    return train[0][order], train[1][order]


def plain() -> nn.Module:
    """The network of all kinds, without training."""
    size = {"num_classes": CLASSES, "in_channels": 1, "image_size": (28, 28)}
    return create_model("mnist_cnn", **size, backbone_options={"width": 4, "hidden": 32})
