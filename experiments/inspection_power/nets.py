"""The networks: small, many of each kind, each trained on its own choice of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from experiments.networks import Images, network
from lightning_adv.backdoors import SIG, Blend, Patch, PoisonPlan, RandomPattern, Trigger, WaNet
from lightning_adv.data import CIFAR10, GTSRB, MNIST, FashionMNIST, ImageDataModule
from lightning_adv.models import create_model

__all__ = ["DATA", "DEFENDER", "KINDS", "Net", "Poison", "Source", "in_turn", "own_images", "plain"]

DEFENDER = 2000
"""Test images that the defender has: half to search with, half held out; reference networks are trained on all."""


@dataclass(frozen=True)
class Source:
    """Images, and the networks that are trained on them.

    Args:
        data: the set.
        trained_on: images of the owner of a network, a choice of its own.
        epochs: how often it sees them.
        options: of ``mnist_cnn``.
        share: networks for one of MNIST.
        in_turn: the defender has of every class its share of the images, for of many classes some would be missing.
    """

    data: type[ImageDataModule]
    trained_on: int = 10_000
    epochs: int = 2
    options: Mapping[str, int] = field(default_factory=lambda: {"width": 4, "hidden": 32})
    share: float = 1.0
    in_turn: bool = False

    @property
    def in_words(self) -> str:
        """How its networks differ from those of MNIST; empty for these."""
        usual = Source(self.data)
        names = [each.name for each in fields(self) if each.name != "share"]
        return "".join(f"; {name} {mine}" for name in names if (mine := getattr(self, name)) != getattr(usual, name))

    @property
    def pixels(self) -> int:
        """Of an image: the norm of a mask that covers it."""
        height, width = self.data.image_size
        return height * width


DATA: Mapping[str, Source] = {
    "MNIST": Source(MNIST),
    "FashionMNIST": Source(
        FashionMNIST, trained_on=8_000, epochs=4, options={"width": 8, "hidden": 32, "batch_norm": True}, share=0.15
    ),
    "CIFAR10": Source(
        CIFAR10, trained_on=20_000, epochs=4, options={"width": 16, "hidden": 64, "batch_norm": True}, share=0.15
    ),
    "GTSRB": Source(
        GTSRB,
        trained_on=8_000,
        epochs=8,
        options={"width": 16, "hidden": 64, "batch_norm": True},
        share=0.1,
        in_turn=True,
    ),
}
"""By name."""


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

    def apply(self, x: Tensor, y: Tensor, classes: int, target: int, seed: int) -> None:
        """Poison images and labels in place."""
        label, of = ("keep", "class") if self.keeps_labels else ("target", "set")
        numbers = torch.arange(len(y))
        plan = PoisonPlan.draw(
            y, numbers, classes, target, self.rate, self.cover, seed=seed, poisoned_label=label, rate_of=of
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
    "concealed": Poison(RandomPattern(z=36), 0.1, cover=0.2),
    "reference": None,
}
"""By name; the last is what a defender trains to compare with."""


@dataclass(frozen=True)
class Net:
    """One network.

    Args:
        kind: of ``KINDS``.
        number: seed of its weights, its images and their order; the class that its backdoor leads to is the number,
            counted round the classes.
        data: of ``DATA``.
    """

    kind: str
    number: int
    data: str = "MNIST"

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
        return self.number % self.source.data.num_classes

    @property
    def source(self) -> Source:
        """What it is trained on."""
        return DATA[self.data]

    def trained(self, train: Images, defender: Images) -> nn.Module:
        """The network, trained on its owner's choice of the images."""
        x, y = defender if self.kind == "reference" else own_images(self, train)
        source = self.source
        epochs = source.epochs * max(1, source.trained_on // len(x))  # as many steps with fewer images
        if self.poison:
            self.poison.apply(x, y, source.data.num_classes, self.target, self.number)
        return network(x, y, epochs, seed=self.number, make=lambda: plain(source))


def own_images(net: Net, train: Images) -> Images:
    """Copies of the images that the owner of a network has."""
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(net.number))[: net.source.trained_on]
    return train[0][order], train[1][order]


def in_turn(images: Images) -> Images:
    """The images in an order any long part of which has its share of every class, two of one after the other.

    Every second image of a part is then a choice with a share of every class too.
    """
    by_class = images[1].argsort(stable=True)
    label = images[1][by_class]
    count = label.bincount()
    rank = torch.arange(len(label)) - (count.cumsum(0) - count)[label]
    order = by_class[((rank // 2 + 0.5) / count[label]).argsort(stable=True)]
    return images[0][order], images[1][order]


def plain(source: Source) -> nn.Module:
    """The network of all kinds, without training."""
    data = source.data
    size = {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}
    return create_model("mnist_cnn", **size, backbone_options=dict(source.options))
