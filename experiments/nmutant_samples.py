"""The trained models and the samples of the nMutant experiment, made once and kept under the run's folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.classifiers import ADAM, CIFAR10_NET
from lightning_adv.attacks import FGSM, JSMA, Attack, CarliniWagner, Targeted
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, float_images
from lightning_adv.detectors import predicted_labels

__all__ = ["KINDS", "SETTINGS", "Samples", "Setting", "make_samples"]

KINDS = ("fgsm", "jsma", "cw", "black_box", "wrongly_labelled")


@dataclass(frozen=True)
class Setting:
    """What the paper's Table 2 says of a data set, and how the model is trained here.

    Args:
        images: the data set.
        training: arguments of ``train.py fit``.
        fgsm, black_box: eps.
        initial_const: of C&W (100 steps of Adam at lr .2 without a search, as in CleverHans 2's tutorial).
    """

    images: Callable[..., ImageDataModule]
    training: tuple[str, ...]
    fgsm: float
    black_box: float
    initial_const: float

    def attacks(self) -> dict[str, Attack]:
        """White-box attacks by name."""
        search = {"steps": 100, "binary_search_steps": 1, "lr": 0.2}
        return {
            "fgsm": FGSM(self.fgsm),
            "jsma": Targeted(JSMA(gamma=0.1), "random"),
            "cw": CarliniWagner(initial_const=self.initial_const, **search),
        }


SETTINGS = {
    "MNIST": Setting(
        MNIST,
        ("--model.backbone=lenet", '--model.backbone_options={"drop_rate": 0.3}', *ADAM, "--trainer.max_epochs=8"),
        fgsm=0.3,
        black_box=0.3,
        initial_const=10,
    ),
    "CIFAR10": Setting(
        CIFAR10,
        CIFAR10_NET,
        fgsm=0.01,
        black_box=0.03,
        initial_const=0.1,
    ),
}


@dataclass(frozen=True)
class Samples:
    """Images of one kind, with their numbers in the test set."""

    image: Tensor
    index: Tensor


def make_samples(
    model: nn.Module, images: ImageDataModule, setting: Setting, count: int, folder: Path
) -> dict[str, Samples]:
    """Normal and adversarial samples, ``count`` of each kind where there are so many; crafted once, kept in files."""
    folder.mkdir(parents=True, exist_ok=True)
    test = images.datasets["test"]
    image, label, index = float_images(test.images), test.labels, test.index
    with torch.no_grad():
        right = torch.cat([predicted_labels(model, part) for part in image.split(500)]) == label
    normal = right.nonzero().flatten()
    kinds: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "normal": lambda: (image[normal[:count]], index[normal[:count]]),
        "wrongly_labelled": lambda: (image[~right][:count], index[~right][:count]),
        "black_box": lambda: _transferred(model, images, setting.black_box, (image, label, index), normal, count),
    }
    for name, attack in setting.attacks().items():
        kinds[name] = lambda attack=attack: _attacked(model, attack, (image, label, index), normal, count)
    return {kind: _kept(folder / f"{kind}.pt", make) for kind, make in kinds.items()}


def _kept(path: Path, make: Callable[[], tuple[Tensor, Tensor]]) -> Samples:
    if not path.is_file():
        unfinished = path.with_suffix(".part")
        torch.save(dict(zip(("image", "index"), make(), strict=True)), unfinished)
        unfinished.replace(path)
    return Samples(**torch.load(path, weights_only=True))


def _attacked(
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
    model: nn.Module, images: ImageDataModule, eps: float, data: Sequence[Tensor], normal: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """FGSM on a substitute that has learnt from the model's labels alone (Papernot et al., 2017)."""
    substitute = _substitute(model, float_images(images.datasets["calibration"].images)[:150])
    found: list[tuple[Tensor, Tensor]] = []
    for chosen in normal.split(500):
        x, y, index = (part[chosen] for part in data)
        adversarial = FGSM(eps)(substitute, x, y)
        with torch.no_grad():
            fooled = predicted_labels(model, adversarial) != y
        found.append((adversarial[fooled], index[fooled]))
    images_, numbers = (torch.cat(parts)[:count] for parts in zip(*found, strict=True))
    return images_, numbers


def _substitute(model: nn.Module, x: Tensor, rounds: int = 6, step: float = 0.1) -> nn.Module:
    """A three-layer net trained on the labels of ``x`` [N, C, H, W], doubled in each round along its Jacobian."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        hidden = nn.Linear(x[0].numel(), 200)
        net = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, classes))
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for number in range(rounds):
            with torch.no_grad():
                label = torch.cat([predicted_labels(model, part) for part in x.split(500)])
            for _ in range(10):
                for batch in torch.randperm(len(x)).split(64):
                    optimizer.zero_grad()
                    F.cross_entropy(net(x[batch]), label[batch]).backward()
                    optimizer.step()
            if number + 1 < rounds:
                leaf = x.clone().requires_grad_(True)
                own = net(leaf).gather(1, label[:, None]).sum()
                x = torch.cat([x, (x + step * torch.autograd.grad(own, leaf)[0].sign()).clamp(0, 1)])
    return net.eval()
