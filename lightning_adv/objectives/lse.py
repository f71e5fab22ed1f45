"""LSE, the squared error of SCORE (Pang et al., 2022): a distance of predictions in place of a divergence.

loss = |p(x) - y|^2 + beta max(|p(x_adv) - p(x)|^2 - c, 0),   x_adv = argmax |p(x') - p(x)|^2 over the eps-ball
"""

from torch import Tensor

from lightning_adv.asking import Classifier, logits_of
from lightning_adv.attacks import PGD, Attack
from lightning_adv.attacks.losses import squared_error
from lightning_adv.errors import InputError
from lightning_adv.objectives.trades import TRADES

__all__ = ["LSE"]


class LSE(TRADES):
    """TRADES with squared errors of probabilities, clean and attacked, in place of logarithms (Pang et al., 2022).

    Args:
        attack: default PGD with eps 8/255, step 2/255, 10 steps; it raises the squared error, too.
        beta: weight of the distance between the predictions (3 to 4).
        clip: c, the distance that goes unpunished.
        **shared: see ``AttackedObjective``.

    Raises:
        InputError: a negative beta or clip.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = LSE(PGD(eps=0.1, steps=2))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(
        self, attack: Attack | None = None, beta: float = 4.0, clip: float = 0.0, **shared: str | float | bool
    ) -> None:
        super().__init__(attack or PGD(step_size=2 / 255), beta, **shared)
        if clip < 0:
            raise InputError(f"clip must not be negative, got {clip}")
        self.clip = clip

    def current_attack(self) -> Attack:
        """The attack with this step's budget, raising the squared error."""
        return super().current_attack().raising(squared_error)

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        clean_logits, logits = logits_of(model, x), logits_of(model, x_adv)
        clean = squared_error(clean_logits, self.truth(clean_logits, y), None)
        moved = squared_error(logits, clean_logits.softmax(dim=1), None)
        return (clean + self.beta * (moved - self.clip).relu()).mean(), clean_logits.detach()
