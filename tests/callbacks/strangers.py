"""A training script that has never heard of this package: a plain module, plain (x, y) loaders, a plain trainer."""

from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES, CHANNELS, SIZE = 4, 3, 8


class PlainModule(pl.LightningModule):
    """A small convolutional classifier with BatchNorm and dropout, trained by SGD."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(CHANNELS, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(8 * SIZE * SIZE, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        self(batch[0])

    def test_step(self, batch: tuple, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def images(count: int, seed: int = 0) -> TensorDataset:
    """Noise with one quarter brighter, which tells the class: clearly in some images, hardly in others."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    image = 0.6 * torch.rand(count, CHANNELS, SIZE, SIZE, generator=generator)
    contrast = 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
    return TensorDataset(image + contrast * quarter(label), label)


def quarter(label: Tensor) -> Tensor:
    """[N, 1, SIZE, SIZE], 1 in the quarter of the class and 0 elsewhere."""
    side = torch.arange(SIZE) // (SIZE // 2)
    return (2 * side[:, None] + side == label.view(-1, 1, 1)).float().unsqueeze(1)


def trained(epochs: int = 6) -> PlainModule:
    """A module that has learnt the classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PlainModule()
        optimizer = model.configure_optimizers()
        for _ in range(epochs):
            for batch in DataLoader(images(128, seed=1), batch_size=16):
                optimizer.zero_grad()
                model.training_step(batch, 0).backward()
                optimizer.step()
    return model


def trainer(*callbacks: pl.Callback, folder: Path | None = None, logger: object = False, **options: object):
    """A silent trainer on the CPU; Lightning's defaults elsewhere."""
    return pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=None if folder is None else str(folder),
        logger=logger,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"devices": 1} | options,
    )
