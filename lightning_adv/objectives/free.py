"""Free adversarial training (Shafahi et al., 2019): one backward serves the weights and the attack.

Every batch is trained on m times; each time delta <- clip(delta + eps sign(grad_x L(f(x + delta), y)), -eps, eps).
"""

import torch
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.attacks import Classifier
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.errors import at_least_one
from lightning_adv.objectives.objective import Objective

__all__ = ["FreeAdversarialTraining"]


class FreeAdversarialTraining(Objective):
    """Cross-entropy of images whose perturbation is updated by the same backward as the weights.

    The perturbation is kept from batch to batch. A module that trains it steps ``replays`` times a batch and calls
    :meth:`after_backward` each time; divide the epochs of a recipe by ``replays``.

    Args:
        eps: radius of the Linf ball, in pixel units of [0, 1].
        replays: m, steps on each batch (8 in the paper).
        label_smoothing: share of the label's probability spread over all classes.

    Raises:
        InputError: fewer than one replay, eps out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> objective = FreeAdversarialTraining("8/255", replays=2)
        >>> for _ in range(objective.replays):
        ...     loss, logits = objective(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        ...     loss.backward()
        ...     objective.after_backward()
        >>> objective.delta.abs().max() <= 8 / 255
        tensor(True)
    """

    judges = "robust"

    def __init__(self, eps: Budget = 8 / 255, replays: int = 8, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing)
        at_least_one(replays=replays)
        self.eps, self.replays = as_eps(eps, "Linf"), replays
        self.delta: Tensor | None = None
        self._attacked: Tensor | None = None

    def craft(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """The images with the perturbation so far."""
        if self.delta is None or self.delta.shape[1:] != x.shape[1:] or len(self.delta) < len(x):
            self.delta = torch.zeros_like(x)
        self.delta = self.delta.to(x.device)
        self._attacked = (x + self.delta[: len(x)]).clamp(0, 1).requires_grad_(True)
        return self._attacked

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and adversarial logits of a batch."""
        logits = logits_of(model, x_adv)
        return self.cross_entropy(logits, y), logits.detach()

    def after_backward(self) -> None:
        """Move the perturbation along the gradient that the backward left on the images."""
        grad = self._attacked.grad
        self.delta[: len(grad)] = (self.delta[: len(grad)] + self.eps * grad.sign()).clamp(-self.eps, self.eps)
        self._attacked = None

    def state_dict(self) -> dict[str, Tensor]:
        """The perturbation."""
        return {} if self.delta is None else {"delta": self.delta}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the perturbation."""
        self.delta = state.get("delta")
