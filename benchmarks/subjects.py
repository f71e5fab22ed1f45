"""The models and images that libraries are compared on: small nets, trained here on real data and kept."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_adv.data import CIFAR10, MNIST, ImageDataModule
from lightning_adv.files import replace_atomically
from lightning_adv.models import create_model
from lightning_adv.objectives import FastAdversarialTraining

__all__ = ["KEPT", "Counted", "Subject", "subject"]

KEPT = Path("runs/benchmarks")
EPOCHS = {"MNIST": 3, "CIFAR10": 5}
EPS = {"MNIST": 0.1, "CIFAR10": 8 / 255}
NETS: dict[str, tuple[str, dict[str, int]]] = {
    "MNIST": ("mnist_cnn", {"width": 16, "hidden": 100}),
    "CIFAR10": ("preact_resnet18", {"width": 8}),
}
SETS: dict[str, Callable[..., ImageDataModule]] = {"MNIST": MNIST, "CIFAR10": CIFAR10}


class Counted(nn.Module):
    """A classifier that counts the images it sees forwards and the images whose gradient it is asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()  # a peer that puts a module's mode back must find this one in eval mode
        self.forwards = self.backwards = 0

    def forward(self, image: Tensor) -> Tensor:
        """Logits; notes the passes."""
        self.forwards += len(image)
        logits = self.model(image)
        if logits.requires_grad:
            logits.register_hook(self._note)
        return logits

    def _note(self, grad: Tensor) -> None:
        self.backwards += len(grad)


class Subject:
    """A trained model and the correctly classified test images it is attacked on.

    Args:
        data: "MNIST" or "CIFAR10".
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
            image = batch.image.float() / 255
            with torch.no_grad():
                right = self.model(image).argmax(dim=1) == batch.label
            x.append(image[right])
            y.append(batch.label[right])
            if sum(map(len, y)) >= samples:
                break
        self.x, self.y = torch.cat(x)[:samples], torch.cat(y)[:samples]


def subject(data: str, root: str, samples: int) -> Subject:
    """The subject for a data set; trains its model at the first call."""
    return Subject(data, root, samples)


def _trained(images: ImageDataModule, data: str) -> nn.Module:
    torch.manual_seed(0)
    name, options = NETS[data]
    model = create_model(
        name,
        num_classes=10,
        in_channels=images.in_channels,
        image_size=images.image_size,
        mean=images.mean,
        std=images.std,
        backbone_options=options,
    )
    kept = KEPT / f"{data}.pt"
    if kept.is_file():
        model.load_state_dict(torch.load(kept, weights_only=True))
        return model.eval()
    images.setup("fit")
    loader, epochs = images.train_dataloader(), EPOCHS[data]
    objective = FastAdversarialTraining(EPS[data], warmup_epochs=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for number, batch in enumerate(loader):
            objective.at_epoch(epoch + number / len(loader))
            loss, _ = objective(model, batch.image.float() / 255, batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"{data} epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}", flush=True)
    replace_atomically(kept, lambda file: torch.save(model.state_dict(), file))
    return model.eval()
