"""What is measured of a network: a class, a portion of images or all of them at a time, and kept."""

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from experiments.by_hand import tensors_of
from experiments.kept import Kept
from experiments.networks import Images, all_logits, all_predicted, network
from experiments.subjects import Subject, images_for
from lightning_adv.attacks import PGD, Attack, AutoAttack
from lightning_adv.inspectors import ClassTrigger, NeuralCleanse
from lightning_adv.modules import ClassifierModule

__all__ = ["ATTACKS", "BUDGETS", "CLEAN_IMAGES", "EPS", "Measured", "box_of"]

CLEAN_IMAGES = 1000
"""Of the test set, which the inspector has."""

BUDGETS: dict[str, Callable[[], NeuralCleanse]] = {
    "authors": NeuralCleanse,
    "short": lambda: NeuralCleanse(steps=60, images_per_step=128),
}
"""Searches by name: that of Neural Cleanse's authors, and one of an audit's length."""

EPS = 0.1
"""Of the network that is proven robust."""

ATTACKS: dict[str, tuple[Attack, int]] = {
    "PGD": (PGD(EPS, steps=40, step_size=EPS / 10), 40),
    "AutoAttack": (AutoAttack(EPS), 2),
}
"""Attacks on it, and how many portions of images each is given."""

PORTION = 250
"""Attacked images that are kept together."""

EPOCHS = 3
"""Of a control."""


class Measured:
    """A network and what is known of it.

    Args:
        subject: the network.
        models: folder of the published files.
        root: of the data.
        run: folder of what was measured.
    """

    def __init__(self, subject: Subject, models: Path, root: str, run: Path) -> None:
        self.subject, self.models, self.root = subject, models, root
        self.kept = Kept(run / subject.name)

    @property
    def setting(self) -> str:
        """What the figures depend on, in words."""
        trained = "" if self.subject.by_hand else f", {EPOCHS} epochs"
        return f"{self.subject.data.__name__}, {CLEAN_IMAGES} clean images of the inspector{trained}"

    @cached_property
    def model(self) -> ClassifierModule:
        """The network with its weights, loaded as a user loads them; a control is trained if it was not."""
        return self._loaded()

    def _loaded(self, **layout: bool) -> ClassifierModule:
        if self.subject.by_hand:
            return self.subject.loaded(self.models, **layout)
        options = {**self.subject.statistics, "num_classes": self.subject.classes, **layout}
        module = ClassifierModule(self.subject.net(), **options)
        module.load_state_dict(self.kept.tensors("weights", lambda: self._trained(options)))
        return module.eval()

    def _trained(self, options: dict[str, int | bool | tuple[float, ...]]) -> dict[str, Tensor]:
        x, y = images_for(self.subject, self.root, "train")
        return network(x, y, EPOCHS, make=lambda: ClassifierModule(self.subject.net(), **options)).state_dict()

    @cached_property
    def images(self) -> Images:
        """All test images and their labels."""
        return images_for(self.subject, self.root)

    def gap(self) -> float | None:
        """Largest difference of a logit of 100 images to that of the function of the file's tensors."""
        if self.subject.by_hand is None:
            return None
        x = self.images[0][:100]
        with torch.no_grad():
            by_hand = self.subject.by_hand(tensors_of(self.models / self.subject.file), x)
        return float((all_logits(self.model, x) - by_hand).abs().max())

    def accuracy(self) -> dict[str, int]:
        """Test images, and how many are named rightly."""

        def make() -> dict[str, int]:
            x, y = self.images
            return {"samples": len(y), "right": int((all_predicted(self.model, x) == y).sum())}

        return self.kept.figures("clean", make)

    def attack_success(self) -> dict[str, int] | None:
        """Test images of other classes than the target, and how many the trigger leads to it."""
        if self.subject.trigger is None:
            return None

        def make() -> dict[str, int]:
            x, y = self.images
            triggered = self.subject.trigger(self.models)(x[y != self.subject.target])
            led = int((all_predicted(self.model, triggered) == self.subject.target).sum())
            return {"samples": len(triggered), "led": led}

        return self.kept.figures("triggered", make)

    def robust(self, attack: str, part: int) -> dict[str, int]:
        """Images of a portion, and how many the attack leaves named rightly."""

        def make() -> dict[str, int]:
            first = PORTION * part
            x, y = (each[first : first + PORTION] for each in self.images)
            result = ATTACKS[attack][0].run(self.model, x, y, index=first + torch.arange(len(y)))
            return {"samples": len(y), "right": int((~result.success).sum())}

        return self.kept.figures(f"{attack} {EPS} {part}", make)

    def searched(self, budget: str, label: int) -> dict:
        """The trigger that Neural Cleanse finds for a class, and what it cost."""

        def make() -> dict:
            few = [tuple(each[:CLEAN_IMAGES] for each in self.images)]
            model = self._loaded(channels_last=True)  # faster, and the same but for rounding
            began = time.process_time()
            found = BUDGETS[budget]().search(model, few, rank=label, ranks=self.subject.classes)
            cost = {"seconds": time.process_time() - began, "image_passes": found.image_passes}
            return _figures(found.triggers[0]) | cost

        return self.kept.figures(f"{budget} {label}", make)


def _figures(found: ClassTrigger) -> dict:
    return {
        "label": found.label,
        "norm": found.norm,
        "success_rate": found.success_rate,
        "status": found.status,
        "steps": found.steps,
        "box": box_of(found.mask[0]),
        "rows": [round(each, 4) for each in found.mask[0].sum(1).tolist()],
        "columns": [round(each, 4) for each in found.mask[0].sum(0).tolist()],
    }


def box_of(mask: Tensor) -> list[int]:
    """First and last row, first and last column where a mask [H, W] is above half its maximum."""
    rows, columns = ((mask > mask.max() / 2).any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    return [rows[0], rows[-1], columns[0], columns[-1]]
