"""IKL, the improved Kullback-Leibler loss (Cui et al., Decoupled Kullback-Leibler Divergence Loss, 2024).

loss = L(f(x), y) + alpha H(p(x), p(x_adv)) + beta / 4 sum_ij w_i w_j (D_ij(x) - D_ij(x_adv))^2,   D_ij = f_i - f_j

p(x) is held fixed in the cross-entropy H; the squares teach both predictions. With w = p(x) and alpha = beta = 1 the
gradients, to x by the squares and to x_adv by H, are those of KL(p(x) || p(x_adv)). Here w is the mean prediction of
images of the same class, over the epoch before, at a temperature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.asking import Classifier, logits_of
from lightning_adv.attacks import PGD, Attack
from lightning_adv.attacks.losses import expected_nll
from lightning_adv.errors import InputError
from lightning_adv.objectives.ranks import over_ranks
from lightning_adv.objectives.trades import TRADES

__all__ = ["IKL"]


class IKL(TRADES):
    """TRADES with the divergence taken apart, and weighted by class instead of by image (Cui et al., 2024).

    The paper lets eps grow over the whole training, ``warmup_epochs`` as many as it has, and adds ``AWP`` with gamma
    0.005 after 10 epochs. The classes' weights are even in the first epoch, and are told of the next by the trainer.

    Args:
        attack: default the paper's cheaper PGD: eps 8/255, 2 steps of that length, gaussian start.
        alpha: weight of the cross-entropy between the predictions (3 to 4 on CIFAR-10).
        beta: weight of the squares.
        temperature: of the predictions that the classes' weights are means of.
        **shared: see ``AttackedObjective``.

    Raises:
        InputError: a negative weight, a temperature that is not positive.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = IKL(PGD(eps=0.1, steps=2))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(
        self,
        attack: Attack | None = None,
        alpha: float = 4.0,
        beta: float = 20.0,
        temperature: float = 4.0,
        **shared: str | float | bool,
    ) -> None:
        super().__init__(attack or PGD(step_size=8 / 255, steps=2, start="gaussian"), beta, **shared)
        if alpha < 0 or temperature <= 0:
            raise InputError(f"alpha must not be negative, temperature above 0, got {alpha} and {temperature}")
        self.alpha, self.temperature = alpha, temperature
        self._weights: Tensor | None = None  # [K, K] a row for each class
        self._seen: Tensor | None = None  # [K, K] sums of this epoch's predictions
        self._epoch = 0

    def at_epoch(self, epoch: float) -> None:
        """Grow eps; at a new epoch, weigh the classes by what was predicted in the one before."""
        super().at_epoch(epoch)
        if int(epoch) != self._epoch and self._seen is not None:
            count = self._seen.sum(dim=1, keepdim=True)
            self._weights = torch.where(count > 0, self._seen / count, self._weights)
            self._seen = torch.zeros_like(self._seen)
        self._epoch = int(epoch)

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        clean_logits, logits = logits_of(model, x), logits_of(model, x_adv)
        clean = self.cross_entropy(clean_logits, y)
        prediction = clean_logits.detach().softmax(dim=1)
        moved = self.alpha * expected_nll(logits, prediction) + self.beta / 2 * self._spread(clean_logits, logits, y)
        return clean + moved.mean(), clean_logits.detach()

    def _spread(self, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        """[N] variance of the shifts of the logits under w: half the weighted sum over all pairs of classes."""
        ruled_out = (clean == -torch.inf) | (attacked == -torch.inf)
        weight = self._weighed(clean.detach(), y).masked_fill(ruled_out, 0.0)
        weight = weight / weight.sum(dim=1, keepdim=True)
        shift = torch.where(ruled_out, 0.0, clean - attacked)
        return (weight * (shift - (weight * shift).sum(dim=1, keepdim=True)).square()).sum(dim=1)

    def _weighed(self, clean: Tensor, y: Tensor) -> Tensor:
        """[N, K] w of each image, whose prediction is noted for the next epoch."""
        classes = clean.shape[1]
        truth = F.one_hot(y, classes).to(clean) if y.dim() == 1 else y
        if self._weights is None or len(self._weights) != classes:
            self._seen = clean.new_zeros(classes, classes)
            self._weights = self._seen + 1 / classes
        self._weights, self._seen = self._weights.to(clean), self._seen.to(clean)
        # Summed at every step, so that a checkpoint, which is the first process's, has what all have seen.
        self._seen += over_ranks(truth.T @ (clean / self.temperature).softmax(dim=1).nan_to_num(0.0))
        return truth @ self._weights

    def state_dict(self) -> dict[str, Tensor]:
        """The classes' weights, what has been seen of the next, and the epoch."""
        if self._weights is None:
            return {}
        return {"weights": self._weights, "seen": self._seen, "epoch": torch.tensor(self._epoch)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the classes' weights."""
        self._weights, self._seen = state.get("weights"), state.get("seen")
        self._epoch = int(state.get("epoch", 0))
