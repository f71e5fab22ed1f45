"""FT-SAM, fine-tuning by sharpness-aware minimisation (Zhu et al., 2023): it shrinks the neurons of a backdoor.

    minimise  L(w + v),    v = rho T^2 g / || T g ||,    g = grad_w L(w),    T = |w|  (adaptive)

with the cross-entropy L of smoothed labels. A weight is moved in proportion to its size, so large ones pay most.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import Classifier, at_weights, logits_of
from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["FTSAM"]

SMALL = 1e-12


class FTSAM(Mitigation):
    """Fine-tunes at the weights that make the loss worst within an ellipsoid around the model's own.

    The weights are never written: the loss is evaluated with w + v in their place.

    Args:
        rho: radius, in units of the weights themselves: the norm of v / w over all of them.
        label_smoothing: probability that is taken from the label and spread over all classes.
        epochs, lr, batch_size, held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> FTSAM(epochs=1)(model, [(torch.rand(20, 1, 2, 2), torch.arange(20) % 3)]).tuned_on
        16
    """

    def __init__(
        self,
        rho: float = 2.0,
        label_smoothing: float = 0.1,
        epochs: int = 20,
        lr: float | None = None,
        batch_size: int = 32,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(epochs, lr, batch_size, held_out, seed)
        if rho < 0 or not 0 <= label_smoothing < 1:
            raise InputError(f"FTSAM needs rho >= 0 and label_smoothing in [0, 1), got {rho} and {label_smoothing}")
        self.rho, self.label_smoothing = rho, label_smoothing

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Fine-tune at the worst weights near by."""

        def entropy(asked: Classifier, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(logits_of(asked, x), y, label_smoothing=self.label_smoothing)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
            grads = torch.autograd.grad(entropy(model, x, y), list(weights.values()), allow_unused=True)
            given = {name: g.float() for name, g in zip(weights, grads, strict=True) if g is not None}
            return entropy(at_weights(model, worst(weights, given, self.rho)), x, y)

        return Repair(warnings=self.fine_tune(model, images, loss))


def worst(weights: dict[str, Tensor], grads: dict[str, Tensor], rho: float) -> dict[str, Tensor]:
    """w + v by name, for weights that have a gradient."""
    sizes = {name: weights[name].detach().float().abs() for name in grads}
    length = torch.stack([(sizes[name] * g).norm() for name, g in grads.items()]).norm()
    return {
        name: weights[name] + (rho / (length + SMALL) * sizes[name].square() * g).to(weights[name].dtype)
        for name, g in grads.items()
    }
