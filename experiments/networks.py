"""Networks that experiments train by a loop of their own, the images that these see, and how they are asked."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.kept import Kept
from lightning_adv.asking import Classifier, logits_of
from lightning_adv.attacks import Attack, LabelOracle, predicted_labels
from lightning_adv.data import ImageDataModule, PoisonedDataModule, float_images
from lightning_adv.models import computes_in_bf16, create_model
from lightning_adv.objectives import CrossEntropy, Objective

__all__ = [
    "Images",
    "all_logits",
    "all_predicted",
    "attacked",
    "error",
    "images_of",
    "kept_network",
    "memory_order",
    "net_for",
    "network",
    "teach",
]

VALUES = 4_000_000
"""Of the images that a network is asked about at once: 26 of 224x224 pixels in colour."""
Images = tuple[Tensor, Tensor]
"""Images [N, C, H, W] in [0, 1] and labels [N]."""


def net_for(
    data: ImageDataModule | PoisonedDataModule,
    name: str,
    options: dict[str, int | bool],
    statistics: tuple[list[float], list[float]] | None = None,
) -> nn.Module:
    """The network of a name for the images of a data module, normalised by these means and deviations or by its own."""
    mean, std = statistics or (data.mean, data.std)
    return create_model(
        name,
        num_classes=data.num_classes,
        in_channels=data.in_channels,
        image_size=data.image_size,
        mean=mean,
        std=std,
        backbone_options=options,
    )


def network(
    x: Tensor,
    y: Tensor,
    epochs: int,
    seed: int = 0,
    objective: Objective | None = None,
    weight_decay: float = 0.0,
    make: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """The network that ``make`` makes trained by AdamW on images and labels; default ``mnist_cnn``, cross-entropy."""
    objective = objective or CrossEntropy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (make or _untrained)()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=weight_decay)
        for _ in range(epochs):
            for chosen in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                objective(model, x[chosen], y[chosen])[0].backward()
                optimizer.step()
    return model.eval()


def teach(
    model: nn.Module,
    images: Images,
    epochs: int,
    batch_size: int,
    falling: Callable[[Optimizer, int], LRScheduler],
    lr: float = 1e-3,
    bf16: bool = False,
    augment: Callable[[Tensor], Tensor] = lambda x: x,
    objective: Objective | None = None,
) -> None:
    """Train a model by Adam on images that are the same in every epoch, as poisoned ones are, but for augmentation.

    Args:
        model: changed in place.
        images: that it learns.
        epochs, batch_size, lr: of the training.
        falling: the schedule of an optimiser for so many steps.
        bf16: in bfloat16, where the device of the model computes in it, channels last.
        augment: of a batch.
        objective: default cross-entropy; it is told whole epochs.
    """
    image, label = images
    device = next(model.parameters()).device
    mixed = bf16 and computes_in_bf16(device)
    model.to(memory_format=memory_order(bf16))
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = falling(adam, epochs * math.ceil(len(image) / batch_size))
    for epoch in range(epochs):
        if objective is not None:
            objective.at_epoch(epoch)
        for batch in torch.randperm(len(image)).split(batch_size):
            adam.zero_grad()
            x, y = augment(image[batch]).to(device), label[batch].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss = F.cross_entropy(model(x).float(), y) if objective is None else objective(model, x, y)[0]
            loss.backward()
            if objective is not None:
                objective.after_backward()
            adam.step()
            schedule.step()


def memory_order(bf16: bool) -> torch.memory_format:
    """Channels last makes convolutions in bfloat16 a third faster on a CPU, and those in float32 a tenth."""
    return torch.channels_last if bf16 else torch.contiguous_format


def kept_network(folder: Path, name: str, train: Callable[[], nn.Module]) -> nn.Module:
    """The ``mnist_cnn`` that ``train`` makes, in eval mode; trained once, its weights are kept in the folder."""
    model = _untrained()
    model.load_state_dict(Kept(folder).tensors(name, lambda: train().state_dict()))
    return model.eval()


def images_of(data: ImageDataModule, split: str, first: int = 0, last: int | None = None) -> Images:
    """Images of a split from the first to before the last, as they lie."""
    found = data.datasets[split]
    batch = found[range(len(found))[first:last]]
    return float_images(batch.image), batch.label


def all_logits(model: Classifier, x: Tensor) -> Tensor:
    """Logits [N, K] of images, in parts of 500, or of fewer where they are large."""
    with torch.no_grad():
        return torch.cat([logits_of(model, part) for part in x.split(_at_once(x))])


def all_predicted(model: LabelOracle, x: Tensor) -> Tensor:
    """Classes [N] that a model, or an oracle of labels, names, in parts of 500, or of fewer where they are large."""
    with torch.no_grad():
        return torch.cat([predicted_labels(model, part) for part in x.split(_at_once(x))])


def error(model: LabelOracle, x: Tensor, y: Tensor) -> float:
    """Share of images that a model gets wrong."""
    return float((all_predicted(model, x) != y).double().mean())


def attacked(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, size: int, index: Tensor | None = None) -> Tensor:
    """Adversarial images [N, C, H, W], made in batches of so many; without numbers, each batch counts from 0."""
    numbers = [None] * len(x) if index is None else index.split(size)
    parts = zip(x.split(size), y.split(size), numbers, strict=False)
    return torch.cat([attack(model, image, label, index=number) for image, label, number in parts])


def _at_once(x: Tensor) -> int:
    return max(1, min(500, VALUES // x[0].numel())) if len(x) else 1


def _untrained() -> nn.Module:
    return create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28))
