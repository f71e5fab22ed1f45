"""HAT, helper-based adversarial training (Rade and Moosavi-Dezfooli, 2022): a margin no larger than it must be.

loss = L(f(x), y) + beta KL(f(x) || f(x_adv)) + gamma L(f(x + h (x_adv - x)), argmax g(x_adv))

g is a network of standard training: what its adversarial images look like, f is taught far outside the ball.
"""

import torch
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS, Classifier, logits_of, predicted
from lightning_adv.attacks import Attack
from lightning_adv.attacks.labels import most_likely
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.errors import InputError
from lightning_adv.objectives.trades import TRADES

__all__ = ["HAT"]


class HAT(TRADES):
    """TRADES, and the labels of a standard network for images pushed on (Rade and Moosavi-Dezfooli, 2022).

    Those images lie outside [0, 1] where the others touch it, as in the paper's code.

    Args:
        helper: g, a checkpoint of ``train.py``, or a module that maps images to logits. A checkpoint is opened when
            training starts, as data; it is no part of what is trained or saved.
        attack: default that of TRADES.
        beta: weight of the divergence.
        gamma: weight of the helper's labels.
        push: h, how far beyond the attacked image; 1 is that image itself.
        **shared: see ``AttackedObjective``.

    Raises:
        InputError: a negative weight or push; when training starts, a checkpoint that cannot be opened; at the first
            step, a helper of other classes.

    Example:
        >>> model, helper = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> loss, logits = HAT(helper)(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(
        self,
        helper: str | nn.Module,
        attack: Attack | None = None,
        beta: float = 2.5,
        gamma: float = 0.5,
        push: float = 3.5,
        **shared: str | float | bool,
    ) -> None:
        super().__init__(attack, beta, **shared)
        if gamma < 0 or push < 0:
            raise InputError(f"gamma and push must not be negative, got {gamma} and {push}")
        self.helper, self.gamma, self.push = helper, gamma, push
        self._network: nn.Module | None = None if isinstance(helper, str) else helper

    def before_training(self) -> None:
        """Open the helper's checkpoint.

        Raises:
            InputError: it cannot be opened.
        """
        self._opened()

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        loss, clean_logits = super().loss(model, x, x_adv, y)
        pushed = logits_of(model, x + self.push * (x_adv - x))
        return loss + self.gamma * self.cross_entropy(pushed, self._taught(x_adv, y, pushed.shape[1])), clean_logits

    def _taught(self, x_adv: Tensor, y: Tensor, classes: int) -> Tensor:
        """[N] what the helper takes the images for; where it has no answer, the label."""
        network = self._opened().to(x_adv.device)
        with leaves_no_trace(network), torch.no_grad():
            said = logits_of(network, x_adv)
        if said.shape[1] != classes:
            raise InputError(f"the helper knows {said.shape[1]} classes, the model {classes}: they must be the same")
        named = predicted(said)
        return torch.where(named == NO_CLASS, most_likely(y), named)

    def _opened(self) -> nn.Module:
        """The helper, which evaluations of what was trained do without."""
        if self._network is None:
            from lightning_adv.models import open_checkpoint

            try:
                self._network = open_checkpoint(self.helper)
            except InputError as error:
                raise InputError(f"the helper of HAT: {error}") from error
        return self._network
