"""The base of the objectives that attack the images of every batch."""

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_adv.attacks import Attack, Classifier
from lightning_adv.attacks.trace import ModelMode
from lightning_adv.errors import InputError
from lightning_adv.objectives.objective import Objective

__all__ = ["AttackedObjective"]


class AttackedObjective(Objective):
    """Crafts an adversarial image for every image, with a budget that may grow or vary.

    Args:
        attack: crafts the images.
        attack_mode: BatchNorm and dropout while attacking: "eval" (running statistics) or "train" (the batch's,
            which are then not recorded).
        warmup_epochs: eps grows linearly from 0 to its value over so many epochs; 0 switches it off.
        random_eps: draw eps uniformly between 0 and its value at every step; "sample" draws one for each image.
        label_smoothing: share of the label's probability spread over all classes.

    Raises:
        InputError: a negative warm-up, an unknown mode, an attack without an eps where it is to vary, or with one eps
            for all images where each has its own.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> class Madry(AttackedObjective):
        ...     def loss(self, model, x, x_adv, y):
        ...         logits = model(x_adv)
        ...         return self.cross_entropy(logits, y), logits.detach()
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> Madry(PGD(eps=0.1, steps=2))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))[0].requires_grad
        True
    """

    def __init__(
        self,
        attack: Attack,
        attack_mode: ModelMode = "eval",
        warmup_epochs: float = 0.0,
        random_eps: bool | Literal["sample"] = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing)
        if warmup_epochs < 0:
            raise InputError(f"warmup_epochs must not be negative, got {warmup_epochs}")
        if attack_mode not in get_args(ModelMode):
            raise InputError(f"attack_mode must be one of {', '.join(get_args(ModelMode))}, got {attack_mode!r}")
        if (warmup_epochs or random_eps) and not attack.has_budget:
            raise InputError(f"{type(attack).__name__} has no eps: leave warmup_epochs and random_eps out")
        if random_eps not in (True, False, "sample"):
            raise InputError(f"random_eps must be true, false or sample, got {random_eps!r}")
        if random_eps == "sample" and not attack.takes_shares:
            raise InputError(f"{type(attack).__name__} has one eps for all images: random_eps: true draws it each step")
        self.attack, self.attack_mode = attack, attack_mode
        self.warmup_epochs, self.random_eps = warmup_epochs, random_eps
        self._share = 1.0

    def at_epoch(self, epoch: float) -> None:
        """Set the share of eps that the warm-up allows."""
        self._share = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0

    def craft(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images [N, C, H, W] for labels [N] or probabilities [N, K]."""
        return self.current_attack().craft(model, x, y, mode=self.attack_mode, shares=self.shares(x))

    def shares(self, x: Tensor) -> Tensor | None:
        """[N] of this step's eps that each of the images has, where they differ."""
        return torch.rand(len(x)).to(x.device) if self.random_eps == "sample" else None

    def current_attack(self) -> Attack:
        """The attack with this step's budget."""
        share = self._share * (float(torch.rand(())) if self.random_eps is True else 1.0)
        return self.attack if share == 1 else self.attack.scaled(share)
