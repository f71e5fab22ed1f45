"""The trained models and the samples of the nMutant experiment, made once and kept under the run's folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.classifiers import ADAM, CIFAR10_NET
from experiments.kept import Kept
from experiments.networks import all_predicted
from lightning_adv.attacks import FGSM, JSMA, Attack, CarliniWagner, DeepFool, SubstituteAttack, Targeted
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, float_images

__all__ = ["KINDS", "SETTINGS", "InBfloat16", "Samples", "Setting", "attacked", "make_samples"]

KINDS = ("fgsm", "jsma", "cw", "black_box", "wrongly_labelled")


@dataclass(frozen=True)
class Setting:
    """What the paper's Table 2 says of a data set, and how the model is trained here.

    Args:
        images: the data set.
        training: arguments of ``train.py fit``.
        fgsm, black_box: eps.
        initial_const, lr: of C&W, 100 steps of Adam without a search; lr .2 is CleverHans 2's tutorial's, .01 the
            attack's authors'.
        substitute: of the black-box attack; None: a net of three dense layers.
        bf16: the victim computes in bfloat16, as it was trained, which makes a CPU three times as fast.
    """

    images: Callable[..., ImageDataModule]
    training: tuple[str, ...]
    fgsm: float
    black_box: float
    initial_const: float
    lr: float
    substitute: str | None = None
    bf16: bool = False

    def data(self, root: str) -> ImageDataModule:
        """The data set in a folder, set up."""
        images = self.images(root=root)
        images.setup()
        return images

    def attacks(self) -> dict[str, Attack]:
        """White-box attacks by name."""
        search = {"steps": 100, "binary_search_steps": 1, "lr": self.lr}
        return {
            "fgsm": FGSM(self.fgsm),
            "jsma": Targeted(JSMA(gamma=0.1), "random"),
            "cw": CarliniWagner(initial_const=self.initial_const, **search),
        }

    def strengths(self) -> dict[str, Attack]:
        """The same attacks, ending nearer to the decision boundary and farther from it."""
        descent = {"steps": 100, "binary_search_steps": 1, "initial_const": self.initial_const}
        found: dict[str, Attack] = {f"fgsm, eps {part:g} times": FGSM(self.fgsm * part) for part in (0.5, 1.0, 3.0)}
        found |= {f"cw, lr {lr:g}": CarliniWagner(lr=lr, **descent) for lr in (0.01, 0.2)}
        descent |= {"binary_search_steps": 4, "initial_const": self.initial_const / 10}
        return found | {"cw, lr 0.01, constant searched": CarliniWagner(lr=0.01, **descent), "deepfool": DeepFool()}


SETTINGS = {
    "MNIST": Setting(
        MNIST,
        ("--model.backbone=lenet", '--model.backbone_options={"drop_rate": 0.3}', *ADAM, "--trainer.max_epochs=8"),
        fgsm=0.3,
        black_box=0.3,
        initial_const=10,
        lr=0.2,
    ),
    "CIFAR10": Setting(
        CIFAR10,
        CIFAR10_NET,
        fgsm=0.01,
        black_box=0.03,
        initial_const=0.1,
        lr=0.01,
        substitute="lenet",
        bf16=True,
    ),
}


class InBfloat16(nn.Module):
    """A classifier that computes in bfloat16 and answers in float32.

    Args:
        model: images to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, K] float32 of images [N, C, H, W] on a CPU."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(image).float()


@dataclass(frozen=True)
class Samples:
    """Images of one kind, with their numbers in the test set."""

    image: Tensor
    index: Tensor

    def first(self, count: int) -> "Samples":
        """So many of them."""
        return Samples(self.image[:count], self.index[:count])


def make_samples(
    model: nn.Module, images: ImageDataModule, setting: Setting, count: int, folder: Path
) -> dict[str, Samples]:
    """Normal and adversarial samples, ``count`` of each kind where there are so many; crafted once, kept in files."""
    test = images.datasets["test"]
    image, label, index = float_images(test.images), test.labels, test.index
    right = all_predicted(model, image) == label
    normal = right.nonzero().flatten()
    kinds: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "normal": lambda: (image[normal[:count]], index[normal[:count]]),
        "wrongly_labelled": lambda: (image[~right][:count], index[~right][:count]),
        "black_box": lambda: _transferred(model, images, setting, (image, label, index), normal, count),
    }
    for name, attack in setting.attacks().items():
        kinds[name] = lambda attack=attack: attacked(model, attack, (image, label, index), normal, count)
    kept, words = Kept(folder), repr(setting)
    return {
        kind: Samples(**kept.tensors(kind, lambda make=make: vars(Samples(*make())), words))
        for kind, make in kinds.items()
    }


def attacked(
    model: nn.Module, attack: Attack, data: Sequence[Tensor], normal: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Successes on correctly classified images, in the order of the test set."""
    found: list[tuple[Tensor, Tensor]] = []
    for chosen in normal.split(100):
        x, y, index = (part[chosen] for part in data)
        result = attack.run(model, x, y, index=index)
        found.append((result.images[result.success], index[result.success]))
        if sum(len(each) for _, each in found) >= count:
            break
    images, numbers = (torch.cat(parts)[:count] for parts in zip(*found, strict=True))
    return images, numbers


def _transferred(
    model: nn.Module, images: ImageDataModule, setting: Setting, data: Sequence[Tensor], normal: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """FGSM on a substitute that has learnt from the model's labels alone (Papernot et al., 2017)."""
    seeds = float_images(images.datasets["calibration"].images)[:150]
    net: str | nn.Module = setting.substitute or _three_layers(seeds[0].numel(), images.num_classes)
    attack = SubstituteAttack(FGSM(setting.black_box), net, rounds=5).fit(model, seeds, images.num_classes)
    return attacked(model, attack, data, normal, count)


def _three_layers(pixels: int, classes: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(pixels, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, classes)]
        return nn.Sequential(nn.Flatten(), *layers)
