"""The models and images that libraries are compared on: small nets, trained here on real data and kept."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.bench import kept
from experiments.networks import all_predicted, memory_order, net_for
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, float_images
from lightning_adv.models import computes_in_bf16
from lightning_adv.objectives import FastAdversarialTraining

__all__ = ["NETS", "WIDE", "Subject"]

WIDE = "CIFAR10, width 32"
"""For AutoAttack alone; trained in bfloat16 where the processor computes in it."""
EPOCHS = {"MNIST": 3, "CIFAR10": 5, WIDE: 2}
EPS = {"MNIST": 0.1, "CIFAR10": 8 / 255, WIDE: 8 / 255}
NETS: dict[str, tuple[str, dict[str, int]]] = {
    "MNIST": ("mnist_cnn", {"width": 16, "hidden": 100}),
    "CIFAR10": ("preact_resnet18", {"width": 8}),
    WIDE: ("preact_resnet18", {"width": 32}),
}
SETS: dict[str, Callable[..., ImageDataModule]] = {"MNIST": MNIST, "CIFAR10": CIFAR10, WIDE: CIFAR10}


class Subject:
    """A trained model and the correctly classified test images it is attacked on.

    Args:
        data: "MNIST", "CIFAR10" or ``WIDE``.
        root: folder with the data set.
        samples: images.
    """

    def __init__(self, data: str, root: str, samples: int) -> None:
        self.name, self.eps = data, EPS[data]
        images = SETS[data](root=root, batch_size=128)
        self.model = _trained(images, data)
        images.setup("test")
        x, y = [], []
        for batch in images.test_dataloader():
            image = float_images(batch.image)
            right = all_predicted(self.model, image) == batch.label
            x.append(image[right])
            y.append(batch.label[right])
            if sum(map(len, y)) >= samples:
                break
        self.x, self.y = torch.cat(x)[:samples], torch.cat(y)[:samples]


def _trained(images: ImageDataModule, data: str) -> nn.Module:
    torch.manual_seed(0)
    model = net_for(images, *NETS[data])
    model.load_state_dict(kept().tensors(data, lambda: _weights(model, images, data)))
    return model.to(memory_format=torch.contiguous_format).eval()


def _weights(model: nn.Module, images: ImageDataModule, data: str) -> dict[str, Tensor]:
    """Weights of the model, trained."""
    images.setup("fit")
    loader, epochs, low = images.train_dataloader(), EPOCHS[data], data == WIDE
    model.to(memory_format=memory_order(low))
    objective = FastAdversarialTraining(EPS[data], warmup_epochs=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for number, batch in enumerate(loader):
            objective.at_epoch(epoch + number / len(loader))
            with torch.autocast("cpu", torch.bfloat16, enabled=low and computes_in_bf16(torch.device("cpu"))):
                loss, _ = objective(model, float_images(batch.image), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"{data} epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}", flush=True)
    return {name: each.contiguous() for name, each in model.state_dict().items()}
