"""Fine-tuning on clean images, the baseline of every other mitigation.

minimise  mean_{(x, y) clean}  CE( f(x), y )  +  wd / 2 |w|^2
"""

from torch import nn

from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["FineTuning"]


class FineTuning(Mitigation):
    """Trains on with the defender's clean images and nothing else: what others are worth shows beside it.

    Args:
        weight_decay: of the L2 penalty on all trainable weights.
        epochs, lr, batch_size, held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> FineTuning(epochs=1)(model, [(torch.rand(20, 1, 2, 2), torch.arange(20) % 3)]).tuned_on
        16
    """

    def __init__(
        self,
        weight_decay: float = 5e-4,
        epochs: int = 20,
        lr: float | None = None,
        batch_size: int = 32,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(epochs, lr, batch_size, held_out, seed)
        self.weight_decay = weight_decay

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Fine-tune."""
        return Repair(warnings=self.fine_tune(model, images))
