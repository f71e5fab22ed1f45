"""The poisoned images and the model of an attack: trained once, kept with the run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from experiments.backdoor_bench.setup import LONGER, Attack, Attacker, Setting
from experiments.networks import Images, all_predicted, images_of, memory_order, net_for, teach
from lightning_adv.backdoors import InputAwareTrigger, Trigger
from lightning_adv.data import CropFlip, ImageBatch, ImageDataModule, PoisonedDataModule
from lightning_adv.files import replace_atomically
from lightning_adv.models import load_weights
from lightning_adv.objectives import InputAware

__all__ = ["Subject", "share"]


def share(model: nn.Module, image: Tensor, label: Tensor) -> float | None:
    """Of the images that are given these labels; None of none."""
    return int((all_predicted(model, image) == label).sum()) / len(label) if len(label) else None


@dataclass(frozen=True)
class Subject:
    """A model with what it was trained on, and what an attacker and a defender have.

    Args:
        model: in eval mode.
        trained_on: images, labels and numbers as the model saw them, but for augmentation.
        poisoned: numbers of the images that are poisoned.
        defended: clean images of the defender.
        test: images.
        trigger: of tests; None without an attack.
        target: class.
        sources: classes that the attacker wants led to the target.
    """

    model: nn.Module
    trained_on: ImageBatch
    poisoned: Tensor
    defended: Images
    test: Images
    trigger: Trigger | None
    target: int
    sources: list[int]

    @classmethod
    def of(
        cls, attack: Attack, seed: int, setting: Setting, root: str, weights: Path, own: Callable[[], nn.Module]
    ) -> "Subject":
        """The subject of an attack, its model trained if it was not kept; ``own`` is the attacker's network."""
        data = setting.images(root=root, batch_size=setting.batch_size, **setting.arguments)
        data.setup()
        arguments = attack.poisoning(Attacker(setting, data, own)) if attack.poisoning else {}
        objective = attack.training(setting) if attack.training else None
        taught = PoisonedDataModule(data, target=setting.target, seed=seed, **arguments) if arguments else data
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        batches = [taught.on_after_batch_transfer(batch, 0) for batch in taught.train_dataloader()]
        trained_on = ImageBatch(*map(torch.cat, zip(*batches, strict=True)))
        x, y = map(torch.cat, zip(images_of(data, "calibration"), images_of(data, "val"), strict=True))
        return cls(
            _trained(data, trained_on, setting, seed, weights, device, objective),
            trained_on,
            taught.plan.poisoned if arguments else torch.zeros(0, dtype=torch.long),
            (x[: setting.defended].to(device), y[: setting.defended].to(device)),
            tuple(each.to(device) for each in images_of(data, "test")),
            objective.trigger if objective else arguments.get("test_trigger") or arguments.get("trigger"),
            setting.target,
            list(arguments.get("source_classes") or sorted(set(range(data.num_classes)) - {setting.target})),
        )

    def triggered(self) -> Tensor:
        """Test images of the source classes, with the trigger."""
        image, label = self.test
        sources = image[torch.isin(label, label.new_tensor(self.sources))]
        return torch.cat([self.trigger(part) for part in sources.split(500)])

    def success(self, model: nn.Module) -> float | None:
        """Share of them that a model gives the target's label."""
        if self.trigger is None:
            return None
        image = self.triggered()
        return share(model, image, self.test[1].new_full((len(image),), self.target))

    def false_activation(self) -> float | None:
        """Share of the other images with the trigger that are given the target; None where all are sources."""
        image, label = self.test
        others = ~torch.isin(label, label.new_tensor([*self.sources, self.target]))
        if self.trigger is None or not others.any():
            return None
        return share(self.model, self.trigger(image[others]), label.new_full((int(others.sum()),), self.target))


def _trained(
    data: ImageDataModule,
    images: ImageBatch,
    setting: Setting,
    seed: int,
    weights: Path,
    device: torch.device,
    objective: InputAware | None,
) -> nn.Module:
    """The model; an objective then has the trigger that was taught with it."""
    drawn = weights.with_suffix(".trigger.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = net_for(data, setting.backbone, dict(setting.options)).to(device)
        if weights.is_file():
            load_weights(weights, model)
            if objective is not None:
                objective.trigger = InputAwareTrigger(str(drawn))
        else:
            crop, random = CropFlip(), torch.Generator().manual_seed(seed)
            teach(
                model,
                (images.image, images.label),
                setting.epochs * (1 if objective is None else LONGER),
                setting.batch_size,
                CosineAnnealingLR,
                setting.lr,
                setting.bf16,
                (lambda x: crop(x, random)) if setting.augmented else (lambda x: x),
                objective,
            )
            if objective is not None:
                objective.trigger.save(drawn, tuple(images.image.shape[1:]))
            replace_atomically(weights, save({name: each.contiguous() for name, each in model.state_dict().items()}))
    return model.to(memory_format=memory_order(setting.bf16)).eval()
