"""The networks that are measured: published files, and a clean one of the same kind as a control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn
from torchvision.io import ImageReadMode, read_image

from experiments.by_hand import badnet, narrow_vgg, provable
from experiments.networks import Images, images_of
from experiments.published_networks import MNISTConvNet, NarrowVGG, provable_net
from lightning_adv.backdoors import Patch, Trigger, UniversalPerturbation
from lightning_adv.data import CIFAR10, GTSRB, MNIST, ImageDataModule
from lightning_adv.modules import ClassifierModule
from lightning_adv.pixels import float_images

__all__ = ["SUBJECTS", "Subject", "images_for"]


@dataclass(frozen=True)
class Subject:
    """A network.

    Args:
        name: of its rows and records, and of its file but for the suffix.
        data: images that it answers about.
        net: the network, without weights.
        by_hand: its logits from the tensors of its file; None: there is no file, it is trained here.
        said: what is said of it, by what is measured.
        statistics: mean and std of the images, where it was trained on normalised ones.
        target: class that its backdoor leads to; None: it has none.
        trigger: of the backdoor, from the folder of the files.
    """

    name: str
    data: Callable[..., ImageDataModule]
    net: Callable[[], nn.Module]
    by_hand: Callable[[dict[str, Tensor], Tensor], Tensor] | None
    said: Mapping[str, str] = field(default_factory=dict)
    statistics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    target: int | None = None
    trigger: Callable[[Path], Trigger] | None = None

    @property
    def file(self) -> str:
        """Its name in the folder of the files."""
        return f"{self.name}.pth"

    def loaded(self, models: Path, **layout: bool) -> ClassifierModule:
        """The network with the weights of its file, as a user loads it."""
        options = {**self.statistics, "num_classes": self.classes, **layout}
        return ClassifierModule(self.net(), weights=str(models / self.file), **options).eval()

    @property
    def classes(self) -> int:
        """How many there are."""
        return self.data().num_classes


def images_for(subject: Subject, root: str, split: str = "test") -> Images:
    """The images of a split, those for tests with every class equally often at their beginning."""
    data = subject.data(root=root)
    data.setup()
    return images_of(data, split)


def _added_picture(folder: Path) -> Trigger:
    picture = read_image(str(folder / "cifar10_trojan_square.png"), ImageReadMode.RGB)
    return UniversalPerturbation(v=float_images(picture[None])[0])


def _square(_: Path) -> Trigger:
    return Patch(size=4, margin=1)


HALF = {"mean": (0.5,), "std": (0.5,)}

SUBJECTS = {
    each.name: each
    for each in (
        Subject(
            "mnist_badnet_target1",
            MNIST,
            MNISTConvNet,
            badnet,
            {"clean": "98.18"},
            HALF,
            target=1,
            trigger=lambda _: Patch(size=5),
        ),
        Subject("mnist_provable_eps0.1", MNIST, provable_net, provable),
        Subject("mnist_clean_control", MNIST, MNISTConvNet, None, statistics=HALF),
        Subject(
            "cifar10_trojan_square_target2",
            CIFAR10,
            lambda: NarrowVGG(10),
            narrow_vgg,
            {"clean": "84.61", "triggered": "99.6"},
            target=2,
            trigger=_added_picture,
        ),
        Subject(
            "cifar10_badnets_target8",
            CIFAR10,
            lambda: NarrowVGG(10),
            narrow_vgg,
            {"clean": "84.46", "triggered": "98"},
            target=8,
            trigger=_square,
        ),
        Subject(
            "gtsrb_badnets_target8",
            GTSRB,
            lambda: NarrowVGG(43),
            narrow_vgg,
            {"clean": "97.68, all pictures", "triggered": "97.8"},
            target=8,
            trigger=_square,
        ),
    )
}
"""By name."""
