"""Retuning: does a backdoor that was taken out come back (Min et al., 2024)?

The mended model is fine-tuned on a few clean images, some of which carry the trigger and its label. Nobody learns a
backdoor from so few: where attack success is high afterwards, it had been hidden, and not removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lightning_adv.backdoors import Target, Trigger, backdoor_labels
from lightning_adv.errors import InputError
from lightning_adv.inspectors.inspector import Images
from lightning_adv.inspectors.suspect import CleanImages, Suspect
from lightning_adv.mitigations.fine_tuning import FineTuning
from lightning_adv.mitigations.mitigation import answers_logits, changes_weights_only

__all__ = ["Retuning"]


@dataclass(frozen=True)
class Retuning:
    """Fine-tunes a model on clean images, a few of which are poisoned.

    Args:
        images: how many, of those that are given; all if there are fewer. The paper takes 2 % of CIFAR-10.
        poisoned: of them, those that get the trigger and the target's label; they are of other classes.
        epochs, lr, batch_size, seed: of the fine-tuning, see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant; in a call, too few images to poison.

    Example:
        >>> from lightning_adv.backdoors import Patch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> images = [(torch.rand(20, 1, 4, 4), torch.arange(20) % 3)]
        >>> Retuning(images=10, poisoned=2, epochs=1)(model, images, Patch(size=1), target=0)
    """

    images: int = 1000
    poisoned: int = 5
    epochs: int = 5
    lr: float = 0.01
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.poisoned < self.images or self.epochs < 1:
            raise InputError(
                f"Retuning needs fewer poisoned images than images and epochs >= 1, "
                f"got {self.poisoned}, {self.images} and {self.epochs}"
            )

    def __call__(
        self,
        model: nn.Module,
        images: Images,
        trigger: Trigger,
        target: Target,
        source_classes: Sequence[int] | None = None,
    ) -> None:
        """Fine-tune the model in place.

        Args:
            model: images [N, C, H, W] in [0, 1] to logits [N, K].
            images: batches (image, label, ...) of clean images.
            trigger: that its backdoor had.
            target: that the trigger led to.
            source_classes: whose images it led there; None for all.

        Raises:
            InputError: fewer images of other classes than are to be poisoned.
        """
        tuning = FineTuning(0.0, self.epochs, self.lr, self.batch_size, seed=self.seed)
        with changes_weights_only(model):
            clean = CleanImages.of(images, model)
            order = torch.randperm(len(clean.image), generator=torch.Generator().manual_seed(self.seed))
            chosen = order[: self.images].to(clean.image.device)
            image, label = clean.image[chosen], clean.label[chosen]
            goal = backdoor_labels(label, target, Suspect(model).classes(image[:1]))
            sources = label if source_classes is None else torch.tensor(source_classes, device=label.device)
            others = ((goal != label) & torch.isin(label, sources)).nonzero().flatten()[: self.poisoned]
            if len(others) < self.poisoned:
                raise InputError(
                    f"retuning poisons {self.poisoned} images of other classes than the target's, and only "
                    f"{len(others)} of its {len(image)} are: give the defender more images, or poison fewer"
                )
            if len(others):
                image[others] = trigger(image[others])
            label[others] = goal[others]
            with answers_logits(model, image):
                tuning.fine_tune(model, CleanImages(image, label))
