"""A trigger as an attack: whatever judges adversarial images judges triggered ones."""

from dataclasses import replace

import torch
from torch import Tensor

from lightning_adv.asking import Classifier
from lightning_adv.attacks import Attack, AttackResult
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.noise import Noise
from lightning_adv.backdoors.poison_plan import Target, backdoor_labels, check_target
from lightning_adv.backdoors.trigger import Trigger
from lightning_adv.errors import InputError

__all__ = ["Triggered"]


class Triggered(Attack):
    """Puts a trigger on the images; success is the class that it leads to, which an image of that class cannot reach.

    For ``DetectionEvaluation``, where it asks how well a detector tells triggered inputs, and for whatever else takes
    attacks.

    Args:
        trigger: on the images.
        target: the class that it leads to, or "all_to_all".

    Raises:
        InputError: when called, a target that the model has no logit for, a ``target`` of the call.

    Example:
        >>> from lightning_adv.backdoors import Patch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> result = Triggered(Patch(size=1), target=2).run(model, torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0]))
        >>> bool(result.success[2])
        False
    """

    aim = "the backdoor's class"

    def __init__(self, trigger: Trigger, target: Target) -> None:
        super().__init__()
        self.trigger, self.target = trigger, target

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """The triggered images."""
        classes = goal.look(goal.x)[0].shape[1]
        check_target(self.target, classes)
        goal.reach, goal.target = True, backdoor_labels(goal.y, self.target, classes)
        return self.trigger(goal.x)

    def run(
        self, model: Classifier, x: Tensor, y: Tensor, *, target: Tensor | None = None, index: Tensor | None = None
    ) -> AttackResult:
        """The triggered images with their logits, and whether each has become what the trigger leads to."""
        if target is not None:
            raise InputError("Triggered leads to the backdoor's class, and takes no target")
        result = super().run(model, x, y, index=index)
        led = backdoor_labels(y, self.target, result.logits.shape[1])
        success = result.success & (led != y)
        return replace(result, success=success, restart=torch.where(success, result.restart, -1))
