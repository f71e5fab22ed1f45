"""Small sets and a model that notes what it was trained on."""

from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from lightning_adv.data import Augmentation, ImageBatch, ImageDataModule, InMemoryImages, Sources


def marked_images(count: int, size: int = 6) -> Tensor:
    """uint8 images [count, 1, size, size] without symmetry; the first two pixels are the image's number."""
    images = torch.arange(size * size, dtype=torch.uint8).reshape(1, 1, size, size).repeat(count, 1, 1, 1)
    number = torch.arange(count)
    images[:, 0, 0, 0] = (number // 256).to(torch.uint8)
    images[:, 0, 0, 1] = (number % 256).to(torch.uint8)
    return images


def numbers_in(images: Tensor) -> list[int]:
    """The numbers that ``marked_images`` wrote, from uint8 or converted images."""
    pixels = images if images.dtype == torch.uint8 else (images * 255).round()
    return (pixels[:, 0, 0, 0].long() * 256 + pixels[:, 0, 0, 1].long()).tolist()


class MarkedData(ImageDataModule):
    """Four classes in turn, ``train_count`` training and ``test_count`` test images made by ``marked_images``."""

    num_classes = 4
    in_channels = 1
    image_size = (6, 6)
    mean = (0.5,)
    std = (0.25,)
    class_names = ["a", "b", "c", "d"]  # noqa: RUF012
    default_val_size = 8
    default_calibration_size = 4

    def __init__(
        self,
        train_count: int = 34,
        test_count: int = 9,
        batch_size: int = 4,
        augment: Augmentation | None = None,
        **common: object,
    ) -> None:
        super().__init__(batch_size=batch_size, augment=augment, **common)
        self.counts = train_count, test_count

    def load(self) -> Sources:
        train, test = (InMemoryImages(marked_images(count), torch.arange(count) % 4) for count in self.counts)
        return Sources(train=train, test=test)


class NotingModel(LightningModule):
    """A linear classifier; ``seen`` holds (epoch, indices, sum of pixels) of every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 4)
        self.seen: list[tuple[int, list[int], float]] = []
        self.evaluated: list[ImageBatch] = []

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        position_weights = torch.arange(36.0)
        fingerprint = float((batch.image.flatten(1) * position_weights).sum())
        self.seen.append((self.current_epoch, batch.index.tolist(), fingerprint))
        return nn.functional.cross_entropy(self.layer(batch.image.flatten(1)), batch.label)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.evaluated.append(batch)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.evaluated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def quiet_trainer(folder: Path, **options: object) -> Trainer:
    """A CPU trainer without logger and bars."""
    options.setdefault("enable_checkpointing", "callbacks" in options)
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
