"""Standard training: the cross-entropy of clean images."""

from torch import Tensor

from lightning_adv.asking import Classifier, logits_of
from lightning_adv.objectives.objective import Objective

__all__ = ["CrossEntropy"]


class CrossEntropy(Objective):
    """Mean cross-entropy of clean images, the baseline of every robust recipe.

    Args:
        label_smoothing: share of the label's probability spread over all classes.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = CrossEntropy()(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> logits.shape
        torch.Size([2, 3])
    """

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and clean logits of a batch."""
        logits = logits_of(model, x)
        return self.cross_entropy(logits, y), logits.detach()
