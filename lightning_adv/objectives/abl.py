"""Anti-backdoor learning (Li et al., Anti-Backdoor Learning: Training Clean Models on Poisoned Data, 2021).

A backdoor is learnt faster than anything else. Training that lets no image fall below a loss gamma for long

    L(theta) = mean_i sign(l_i - gamma) l_i          (local gradient ascent)
    L(theta) = mean_i |l_i - gamma| + gamma          (flooding)

keeps what is hard near gamma, while poisoned images fall below it: ``LowestLoss`` finds them there. The backdoor is
then unlearnt by ascent on the images that were isolated, ``CleansedDataModule(only_suspects=True)``.
"""

from typing import Literal, get_args

from torch import Tensor

from lightning_adv.asking import Classifier, logits_of
from lightning_adv.errors import InputError
from lightning_adv.objectives.objective import Objective

__all__ = ["ABL", "GradientAscent"]

Method = Literal["ascent", "flooding"]


class ABL(Objective):
    """Keeps each image's loss near a bound that poisoned images fall below (Li et al., 2021).

    Args:
        gamma: the bound, in nats.
        method: "ascent" changes the sign of the loss below it, "flooding" turns the loss back at it.

    Raises:
        InputError: a negative bound, a method that is none.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = ABL()(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> logits.shape
        torch.Size([2, 3])
    """

    def __init__(self, gamma: float = 0.5, method: Method = "ascent") -> None:
        super().__init__()
        if gamma < 0 or method not in get_args(Method):
            raise InputError(
                f"ABL needs gamma >= 0 and a method of {', '.join(get_args(Method))}, got {gamma} and {method!r}"
            )
        self.gamma, self.method = gamma, method

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        logits = logits_of(model, x)
        each = self.cross_entropies(logits, y)
        if self.method == "flooding":
            return (each - self.gamma).abs().mean() + self.gamma, logits.detach()
        return ((each.detach() - self.gamma).sign() * each).mean(), logits.detach()


class GradientAscent(Objective):
    """Unlearns images: their cross-entropy rises (Li et al., 2021).

    For a few epochs at a small rate, on images that a scan isolated: nothing bounds it from below.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> bool(GradientAscent()(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))[0] < 0)
        True
    """

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        logits = logits_of(model, x)
        return -self.cross_entropy(logits, y), logits.detach()
