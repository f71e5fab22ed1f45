"""Adversarial weight perturbation (Wu, Xia, Wang, 2020): flatten the loss around the weights.

loss = L(w + v),   v = gamma |w| / |g| g for each weight tensor,   g = grad_w L(w) on the same attacked images
"""

import torch
from torch import Tensor, nn

from lightning_adv.asking import at_weights, without_records
from lightning_adv.attacks import Classifier
from lightning_adv.errors import InputError
from lightning_adv.objectives.objective import Objective

__all__ = ["AWP", "innermost"]

SMALL = 1e-20


class AWP(Objective):
    """Any objective, taken at the weights that a step of length ``gamma |w|`` makes worst.

    The images are crafted once, at the unperturbed weights. The weights are never written: the loss is evaluated with
    w + v in their place, so its gradient reaches w without anything to restore. Costs one full pass more.

    Args:
        objective: the objective to flatten.
        gamma: length of the perturbation relative to each tensor's (0.01 for adversarial training, 0.005 for TRADES).
        warmup_epochs: epochs without perturbation at the start (0; 10 for TRADES).

    Raises:
        InputError: gamma or the warm-up negative; at the call, a model without a trainable weight of more than one
            dimension.

    Example:
        >>> from lightning_adv.objectives import TRADES
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = AWP(TRADES(), gamma=0.005)(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(self, objective: Objective, gamma: float = 0.01, warmup_epochs: float = 0.0) -> None:
        super().__init__(objective.label_smoothing)
        if gamma < 0 or warmup_epochs < 0:
            raise InputError(f"gamma and warmup_epochs must not be negative, got {gamma} and {warmup_epochs}")
        if objective.replays is not None:
            raise InputError(f"AWP crafts the images once a step; it does not go with {type(objective).__name__}")
        self.objective, self.gamma, self.warmup_epochs = objective, gamma, warmup_epochs
        self.judges, self.takes_probabilities = objective.judges, objective.takes_probabilities
        self._active = warmup_epochs == 0

    def before_training(self) -> None:
        """The inner objective's preparation."""
        self.objective.before_training()

    def at_epoch(self, epoch: float) -> None:
        """Switch the perturbation on after its warm-up; the inner objective has its own schedule."""
        self._active = epoch >= self.warmup_epochs
        self.objective.at_epoch(epoch)

    def craft(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """The inner objective's images."""
        return self.objective.craft(model, x, y)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The inner objective's loss at the perturbed weights."""
        if not self._active or self.gamma == 0:
            return self.objective.loss(model, x, x_adv, y)
        moved = self._perturbed_weights(model, x, x_adv, y)
        return self.objective.loss(at_weights(model, moved), x, x_adv, y)

    def _perturbed_weights(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> dict[str, Tensor]:
        """w + v by name, for tensors of more than one dimension (no biases, no normalisation) that the loss uses."""
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
        if not weights:
            raise InputError(
                "AWP perturbs weights, and the model has no trainable one of more than one dimension: unfreeze a "
                "layer, or train with the objective alone"
            )
        # BatchNorm records the forward at the perturbed weights only; this one works on copies of its statistics.
        loss, _ = self.objective.loss(without_records(model), x, x_adv, y)
        grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        return {
            name: w + (self.gamma * w.detach().norm() / (g.norm() + SMALL)) * g
            for (name, w), g in zip(weights.items(), grads, strict=True)
            if g is not None  # a head that this loss does not ask stays as it is
        }


def innermost(objective: Objective) -> Objective:
    """What ``AWP`` flattens, however often; the objective itself where nothing wraps it.

    Args:
        objective: any.

    Example:
        >>> from lightning_adv.objectives import TRADES
        >>> type(innermost(AWP(TRADES()))).__name__
        'TRADES'
    """
    while isinstance(objective, AWP):
        objective = objective.objective
    return objective
