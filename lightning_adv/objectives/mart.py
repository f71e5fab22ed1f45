"""MART (Wang et al., 2020): adversarial training that cares for the images the model gets wrong anyway.

loss = BCE(f(x_adv), y) + beta KL(p(x) || p(x_adv)) (1 - p_y(x)),
BCE = -log p_y(x_adv) - log(1 - max_{k != y} p_k(x_adv)),   x_adv = attack(f, x, y)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.attacks import PGD, Attack, Classifier
from lightning_adv.attacks.losses import divergence
from lightning_adv.errors import InputError
from lightning_adv.objectives.attacked import AttackedObjective

__all__ = ["MART"]

# The constants of the authors' code: they keep the logarithms finite where a probability is 0 or 1.
ABOVE_ONE, SMALL = 1.0001, 1e-12


class MART(AttackedObjective):
    """Boosted cross-entropy of attacked images, and their divergence weighted by the doubt about the clean image.

    Where labels are probabilities of the classes, the loss is its mean over them.

    Args:
        attack: default the paper's PGD: eps 0.031, step 0.007, 10 steps, gaussian start.
        beta: weight of the divergence (6 for WRN-34-10, 5 for ResNet-18).
        **shared: see ``AttackedObjective``.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = MART(PGD(eps=0.1, steps=2))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    judges = "robust"

    def __init__(
        self,
        attack: Attack | None = None,
        beta: float = 6.0,
        **shared: str | float | bool,
    ) -> None:
        attack = attack or PGD(eps=0.031, step_size=0.007, steps=10, start="gaussian")
        super().__init__(attack, **shared)
        if beta < 0:
            raise InputError(f"beta must not be negative, got {beta}")
        self.beta = beta

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and adversarial logits of a batch."""
        clean_logits, logits = logits_of(model, x), logits_of(model, x_adv)
        p_clean, p_adv = clean_logits.softmax(dim=1), logits.softmax(dim=1)
        boosted = self.cross_entropy(logits, y)  # it refuses labels that are no classes
        p_label = F.one_hot(y, logits.shape[1]).to(p_adv) if y.dim() == 1 else y
        first, second = p_adv.topk(2, dim=1).values.split(1, dim=1)
        runner_up = torch.where(p_adv == first, second, first)  # [N, K] the best of the other classes
        boosted = boosted - (p_label * (ABOVE_ONE - runner_up + SMALL).log()).sum(dim=1).mean()
        doubt = 1 - (p_label * p_clean).sum(dim=1)
        return boosted + self.beta * (divergence(clean_logits, logits) * doubt).mean(), logits.detach()
