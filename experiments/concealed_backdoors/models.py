"""The models of the concealed-backdoor experiment: trained once, kept with the run."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from experiments.concealed_backdoors.setup import Cell, Setting, trigger_of
from experiments.networks import memory_order, net_for, teach
from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.backdoors import ImageShape, Trigger
from lightning_adv.backdoors.trigger import PatternTrigger
from lightning_adv.data import ImageBatch, ImageDataModule, IndexedImages, PoisonedDataModule, float_images
from lightning_adv.files import replace_atomically
from lightning_adv.models import load_weights

__all__ = ["Bernoulli", "clean_triggers", "images_of", "owned", "subject_of"]

RAW = ([0.0], [1 / 255])
"""Mean and deviation with which a network sees pixels of 0 to 255."""


class Bernoulli(Trigger):
    """A trigger whose pixels a cover image shows each with the sampling rate, whatever their number comes to."""

    def __init__(self, trigger: PatternTrigger) -> None:
        self.trigger = trigger

    def apply(self, x: Tensor) -> Tensor:
        """The whole trigger."""
        return self.trigger.apply(x)

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels that it may change."""
        return self.trigger.support(shape)

    def part(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Images whose pixels show it or not, drawn one by one."""
        shown = SampleNoise(seed, index).uniform(x[:, :1]) < rate
        return torch.where(shown, self.apply(x), x)


def subject_of(
    cell: Cell, repeat: int, setting: Setting, root: str, run: Path
) -> tuple[ImageDataModule, PatternTrigger | None, nn.Module]:
    """The clean data, what is hidden, and the model in eval mode, trained if it was not kept."""
    data = setting.images(root=root, batch_size=setting.batch_size, **setting.arguments)
    data.setup()
    trigger = trigger_of(cell, repeat, clean_triggers(cell, repeat, run), setting.target)
    weights = run / cell.data / cell.name / f"weights_{repeat}.safetensors"
    taught = data if trigger is None else _poisoned(data, trigger, cell, repeat, setting)
    return data, trigger, _trained(taught, setting, repeat, weights)


def clean_triggers(cell: Cell, repeat: int, run: Path) -> Path:
    """File of the triggers reconstructed from the repeat's clean model."""
    return run / cell.data / f"clean_{repeat}.safetensors"


def owned(data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """What a defender owns: everything that is neither trained on nor tested with."""
    x, y = (
        torch.cat(parts) for parts in zip(*(images_of(data.datasets[s]) for s in ("calibration", "val")), strict=True)
    )
    return x, y


def images_of(data: IndexedImages) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels, as an evaluation sees them."""
    batch = data.for_evaluation()[list(range(len(data)))]
    return float_images(batch.image), batch.label


def _poisoned(
    data: ImageDataModule, trigger: PatternTrigger, cell: Cell, repeat: int, setting: Setting
) -> PoisonedDataModule:
    return PoisonedDataModule(
        data,
        Bernoulli(trigger) if setting.bernoulli else trigger,
        setting.target,
        setting.poisoned,
        setting.cover if cell.rate else 0,
        cell.rate,
        seed=repeat,
        cover_copies=setting.cover_copies and cell.rate > 0,
    )


def _trained(data: ImageDataModule | PoisonedDataModule, setting: Setting, seed: int, weights: Path) -> nn.Module:
    """The trained model, whose weights are kept: another inspection of it costs no training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = net_for(data, setting.backbone, setting.backbone_options, RAW if setting.raw else None)
        if weights.is_file():
            load_weights(weights, model)
        else:
            _train(model, data, setting)
            replace_atomically(weights, save({name: each.contiguous() for name, each in model.state_dict().items()}))
    return model.to(memory_format=memory_order(setting.bf16)).eval()


def _train(model: nn.Module, data: ImageDataModule | PoisonedDataModule, setting: Setting) -> None:
    """Train on one pass's images over and over: poisoned images are the same in every epoch."""
    batches: list[ImageBatch] = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    image, label = (torch.cat(parts) for parts in list(zip(*batches, strict=True))[:2])

    def falling(adam: Optimizer, steps: int) -> LRScheduler:
        return LambdaLR(adam, lambda step: min(1.0, (1 - step / steps) / setting.decay) if setting.decay else 1.0)

    teach(model, (image, label), setting.epochs, setting.batch_size, falling, bf16=setting.bf16)
